// SPDX-License-Identifier: GPL-2.0
/*
 * A plugin of QEMU's TCG (API from QEMU 9 on) that counts the instructions of the guest and
 * writes down the count whenever one of some addresses is reached.
 *
 *   -plugin hops.so,marks=FILE,out=FILE
 *
 * Each line of `marks` is a hexadecimal address and a name. Each line of `out` is a name and
 * how many instructions the guest had executed before it. At the end there are lines that
 * begin with `block`: the address of a block of code and the number of instructions that it
 * executed on all ways from the first mark to the last one.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As in qemu/qemu-plugin.h, which Debian does not package. */
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef struct { struct qemu_plugin_scoreboard *score; size_t offset; } qemu_plugin_u64;
struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t size);
uint64_t qemu_plugin_u64_get(qemu_plugin_u64 entry, unsigned int vcpu);
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id,
	void (*cb)(uint64_t id, struct qemu_plugin_tb *tb));
void qemu_plugin_register_atexit_cb(uint64_t id, void (*cb)(uint64_t id, void *data), void *data);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb,
	void (*cb)(unsigned int vcpu, void *data), int flags, void *data);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
	void (*cb)(unsigned int vcpu, void *data), int flags, void *data);
void qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(struct qemu_plugin_insn *insn, int op,
	qemu_plugin_u64 entry, uint64_t value);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
enum { ADD_U64 = 0, NO_REGISTERS = 0 };

__attribute__((visibility("default"))) int qemu_plugin_version = 2;

struct mark {
	uint64_t address;
	char name[64];
};

struct block {
	struct block *next;
	uint64_t address, size, runs;
	/* Since the first mark was reached last; it may be reached again before the last one. */
	uint64_t way, runs_of_way;
};

static struct mark marks[64];
static size_t count;
static struct block *blocks;
static uint64_t way;
static bool between;
static qemu_plugin_u64 instructions;
static FILE *out;

static void reached(unsigned int vcpu, void *data)
{
	struct mark *mark = data;

	/* The instruction itself is counted already. */
	fprintf(out, "%s %" PRIu64 "\n", mark->name,
		qemu_plugin_u64_get(instructions, vcpu) - 1);
	if (mark == &marks[0]) {
		between = true;
		way++;
	} else if (mark == &marks[count - 1] && between) {
		between = false;
		for (struct block *block = blocks; block; block = block->next)
			if (block->way == way)
				block->runs += block->runs_of_way;
	}
}

static void runs(unsigned int vcpu, void *data)
{
	struct block *block = data;

	if (!between)
		return;
	if (block->way != way) {
		block->way = way;
		block->runs_of_way = 0;
	}
	block->runs_of_way++;
}

static void translated(uint64_t id, struct qemu_plugin_tb *tb)
{
	size_t size = qemu_plugin_tb_n_insns(tb);
	struct block *block = calloc(1, sizeof(*block));

	for (size_t i = 0; i < size; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		uint64_t address = qemu_plugin_insn_vaddr(insn);

		qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, ADD_U64,
								    instructions, 1);
		for (size_t m = 0; m < count; m++)
			if (marks[m].address == address)
				qemu_plugin_register_vcpu_insn_exec_cb(insn, reached,
								       NO_REGISTERS, &marks[m]);
		if (!i)
			block->address = address;
	}
	block->size = size;
	block->next = blocks;
	blocks = block;
	qemu_plugin_register_vcpu_tb_exec_cb(tb, runs, NO_REGISTERS, block);
}

static void ended(uint64_t id, void *data)
{
	for (struct block *block = blocks; block; block = block->next)
		if (block->runs)
			fprintf(out, "block %" PRIx64 " %" PRIu64 "\n", block->address,
				block->size * block->runs);
	fclose(out);
}

__attribute__((visibility("default")))
int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
	FILE *file = NULL;

	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "marks=", 6))
			file = fopen(argv[i] + 6, "r");
		if (!strncmp(argv[i], "out=", 4))
			out = fopen(argv[i] + 4, "w");
	}
	if (!file || !out)
		return -1;
	while (count < sizeof(marks) / sizeof(*marks) &&
	       fscanf(file, "%" SCNx64 " %63s", &marks[count].address, marks[count].name) == 2)
		count++;
	fclose(file);
	instructions.score = qemu_plugin_scoreboard_new(sizeof(uint64_t));
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	qemu_plugin_register_atexit_cb(id, ended, NULL);
	return count ? 0 : -1;
}
