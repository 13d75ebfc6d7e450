// SPDX-License-Identifier: GPL-2.0
/*
 * Mistakes on purpose: what the debug kernel must find, see qemu/selftest.
 *
 * insmod planted.ko mistake=NAME
 */
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/timer.h>

static char *mistake = "none";
module_param(mistake, charp, 0);

static DEFINE_SPINLOCK(first);
static DEFINE_SPINLOCK(second);
static int __rcu *shared;

static void forget(void)
{
	void *bytes;
	int i;

	/* the sheaves of the allocator keep the latest addresses, kmemleak finds them there */
	for (i = 0; i < 100; i++) {
		bytes = kmalloc(333, GFP_KERNEL);
		OPTIMIZER_HIDE_VAR(bytes);
	}
}

static void use_after_free(void)
{
	volatile char *bytes = kmalloc(64, GFP_KERNEL);

	kfree((void *)bytes);
	bytes[8] = 1;
}

static void write_beyond(void)
{
	volatile char *bytes = kmalloc(64, GFP_KERNEL);
	int at = 64;

	OPTIMIZER_HIDE_VAR(at);
	bytes[at] = 1;
	kfree((void *)bytes);
}

static void sleep_in_atomic(void)
{
	spin_lock(&first);
	kfree(kmalloc(64, GFP_KERNEL));
	spin_unlock(&first);
}

static void lock_both(spinlock_t *a, spinlock_t *b)
{
	spin_lock(a);
	spin_lock(b);
	spin_unlock(b);
	spin_unlock(a);
}

static void invert_locks(void)
{
	lock_both(&first, &second);
	lock_both(&second, &first);
}

static void read_without_rcu(void)
{
	rcu_dereference(shared);
}

static void nothing(struct timer_list *timer)
{
}

static void free_active_timer(void)
{
	struct timer_list *timer = kmalloc(sizeof(*timer), GFP_KERNEL);

	timer_setup(timer, nothing, 0);
	mod_timer(timer, jiffies + 1000 * HZ);
	kfree(timer);
}

static void shift_too_far(void)
{
	int by = 40;

	OPTIMIZER_HIDE_VAR(by);
	pr_info("planted: %d\n", 1 << by);
}

static const struct {
	const char *name;
	void (*make)(void);
} mistakes[] = {
	{ "leak", forget },
	{ "use-after-free", use_after_free },
	{ "out-of-bounds", write_beyond },
	{ "sleep", sleep_in_atomic },
	{ "locks", invert_locks },
	{ "rcu", read_without_rcu },
	{ "timer", free_active_timer },
	{ "shift", shift_too_far },
};

static int __init planted_init(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(mistakes); i++) {
		if (strcmp(mistakes[i].name, mistake))
			continue;
		mistakes[i].make();
		return 0;
	}
	return -EINVAL;
}

static void __exit planted_exit(void)
{
}

module_init(planted_init);
module_exit(planted_exit);
MODULE_DESCRIPTION("Mistakes on purpose");
MODULE_LICENSE("GPL");
