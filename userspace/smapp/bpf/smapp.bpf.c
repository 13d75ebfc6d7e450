// SPDX-License-Identifier: GPL-2.0
/*
 * What an unmodified kernel does not tell by netlink: retransmission timeouts,
 * and why a subflow or a connection ended.
 *
 * Each program is loaded on its own; smapp goes on without those that a kernel
 * refuses. All write records into one ring buffer. Nothing is kept here: who a
 * record is about, smapp finds by the token or by the ends of the subflow.
 *
 * Only the fields that are read are declared. Their offsets come from the BTF of
 * the running kernel (CO-RE), so there is no header to include.
 *
 * Built by scripts/bpf into smapp.bpf.o, which is committed.
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef _Bool bool;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

/* linux/bpf.h: maps */
#define BPF_MAP_TYPE_RINGBUF 27

/* linux/bpf.h: helpers, by number */
static long (*const bpf_sock_ops_cb_flags_set)(void *ops, int flags) = (void *)59;
static long (*const bpf_probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static void *(*const bpf_ringbuf_reserve)(void *ring, u64 size, u64 flags) = (void *)131;
static void (*const bpf_ringbuf_submit)(void *data, u64 flags) = (void *)132;
static void *(*const bpf_skc_to_tcp_sock)(void *sk) = (void *)137;

/* linux/bpf.h: callbacks of sock_ops, and the flag that asks for the last */
#define BPF_SOCK_OPS_TCP_CONNECT_CB 3
#define BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB 5
#define BPF_SOCK_OPS_RTO_CB 8
#define BPF_SOCK_OPS_RTO_CB_FLAG 1

#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_MPTCP 262
#define TCP_CLOSE 7

/* What is read of the kernel's structures. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	u32 inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct in6_addr {
	u8 in6_u[16];
};

struct sock_common {
	u32 skc_daddr;
	u32 skc_rcv_saddr;
	u16 skc_dport;
	u16 skc_family;
	u8 skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct sock {
	struct sock_common __sk_common;
	u16 sk_protocol;
	int sk_err;
	int sk_err_soft;
};

struct inet_sock {
	u16 inet_sport;
};

struct inet_connection_sock {
	u32 icsk_rto;
	u8 icsk_retransmits;
	u8 icsk_backoff;
	void *icsk_ulp_data;
};

struct tcp_sock {
	bool is_mptcp;
	u32 packets_out;
	u32 snd_una;
	u32 snd_nxt;
	u64 bytes_acked;
	u64 bytes_received;
};

struct mptcp_subflow_context {
	struct sock *conn;
};

struct mptcp_sock {
	u32 token;
};

struct bpf_sock_ops {
	u32 op;
	u32 args[4];
	u32 bpf_sock_ops_cb_flags;
	struct bpf_sock *sk;
};

#pragma clang attribute pop

/* One record, read by record.rs. */
enum kind {
	/* The timer has expired: the values now in force. */
	TIMEOUT = 1,
	/* The timer has expired: the values before that. */
	TIMEOUT_BEFORE = 2,
	SUBFLOW_CLOSED = 3,
	CONNECTION_CLOSED = 4,
};

struct record {
	u64 bytes_acked;
	u64 bytes_received;
	u8 local[16];		/* the first four bytes are those of IPv4 */
	u8 remote[16];
	u32 token;		/* 0 if the socket has it no longer */
	u32 rto;		/* in jiffies */
	u32 snd_una;
	u32 snd_nxt;
	u32 error;
	u32 error_soft;
	u16 local_port;		/* in network byte order, as the next */
	u16 remote_port;
	u16 family;
	u8 kind;
	u8 state;		/* before it closed */
	u8 retransmits;
	u8 backoff;
	u8 pad[6];
};

/* The network namespace to look at: the inode number of /proc/self/ns/net, set
 * before loading.
 */
const volatile u32 netns;

/* Records that found the ring full. */
u64 lost;

struct {
	int (*type)[BPF_MAP_TYPE_RINGBUF];
	int (*max_entries)[1024 * 1024];
} records SEC(".maps");

char licence[] SEC("license") = "GPL";

/* The field FROM points at; 0 if it cannot be read. */
#define READ(from) ({							\
	__typeof__(*(from)) value = {};					\
	bpf_probe_read_kernel(&value, sizeof(value), from);		\
	value;								\
})

INLINE bool is_here(struct sock *sk)
{
	struct net *net = READ(&sk->__sk_common.skc_net.net);

	return READ(&net->ns.inum) == netns;
}

/* The connection of a subflow. */
INLINE u32 token_of_subflow(struct sock *ssk)
{
	struct mptcp_subflow_context *context;
	struct mptcp_sock *msk;

	context = READ(&((struct inet_connection_sock *)ssk)->icsk_ulp_data);
	if (!context)
		return 0;
	msk = (struct mptcp_sock *)READ(&context->conn);
	return msk ? READ(&msk->token) : 0;
}

INLINE struct record *begin(struct sock *sk, u8 kind, u8 state)
{
	struct sock_common *common = &sk->__sk_common;
	struct record *r = bpf_ringbuf_reserve(&records, sizeof(*r), 0);

	if (!r) {
		__sync_fetch_and_add(&lost, 1);
		return 0;
	}
	__builtin_memset(r, 0, sizeof(*r));
	r->kind = kind;
	r->state = state;
	r->family = READ(&common->skc_family);
	if (r->family == AF_INET6) {
		bpf_probe_read_kernel(r->local, 16, &common->skc_v6_rcv_saddr);
		bpf_probe_read_kernel(r->remote, 16, &common->skc_v6_daddr);
	} else {
		bpf_probe_read_kernel(r->local, 4, &common->skc_rcv_saddr);
		bpf_probe_read_kernel(r->remote, 4, &common->skc_daddr);
	}
	/* skc_num is 0 by the time that a socket has closed. */
	r->local_port = READ(&((struct inet_sock *)sk)->inet_sport);
	r->remote_port = READ(&common->skc_dport);
	return r;
}

INLINE void fill_subflow(struct record *r, struct sock *ssk)
{
	struct inet_connection_sock *icsk = (void *)ssk;
	struct tcp_sock *tp = (void *)ssk;

	r->token = token_of_subflow(ssk);
	r->rto = READ(&icsk->icsk_rto);
	r->retransmits = READ(&icsk->icsk_retransmits);
	r->backoff = READ(&icsk->icsk_backoff);
	r->snd_una = READ(&tp->snd_una);
	r->snd_nxt = READ(&tp->snd_nxt);
	r->bytes_acked = READ(&tp->bytes_acked);
	r->bytes_received = READ(&tp->bytes_received);
	r->error = READ(&ssk->sk_err);
	r->error_soft = READ(&ssk->sk_err_soft);
}

/* The timer has done its work: backoff and timeout are those now in force. */
SEC("fexit/tcp_retransmit_timer")
int timeout(u64 *args)
{
	struct sock *sk = (void *)args[0];
	struct tcp_sock *tp = (void *)sk;
	struct record *r;
	u8 state;

	if (!READ(&tp->is_mptcp) || !is_here(sk))
		return 0;
	state = READ(&sk->__sk_common.skc_state);
	/* The last one: the state change tells. */
	if (state == TCP_CLOSE || !READ(&tp->packets_out))
		return 0;
	r = begin(sk, TIMEOUT, state);
	if (!r)
		return 0;
	fill_subflow(r, sk);
	bpf_ringbuf_submit(r, 0);
	return 0;
}

/* For kernels that refuse the program above: told before the backoff, and only of
 * sockets that were flagged.
 */
SEC("sockops")
int timeout_callback(struct bpf_sock_ops *ops)
{
	struct tcp_sock *tp;
	struct sock *ssk;
	struct record *r;
	u32 op = ops->op;
	void *sk;

	if (op != BPF_SOCK_OPS_TCP_CONNECT_CB &&
	    op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB && op != BPF_SOCK_OPS_RTO_CB)
		return 1;
	sk = ops->sk;
	if (!sk)
		return 1;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp || !READ(&tp->is_mptcp) || !is_here((void *)tp))
		return 1;
	if (op != BPF_SOCK_OPS_RTO_CB) {
		/* The flags of other programs stay. */
		bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags |
					       BPF_SOCK_OPS_RTO_CB_FLAG);
		return 1;
	}
	/* It has expired for good: the state change tells. */
	if (ops->args[2])
		return 1;
	ssk = (void *)tp;
	r = begin(ssk, TIMEOUT_BEFORE, READ(&ssk->__sk_common.skc_state));
	if (!r)
		return 1;
	fill_subflow(r, ssk);
	bpf_ringbuf_submit(r, 0);
	return 1;
}

SEC("tp_btf/inet_sock_set_state")
int closed(u64 *args)
{
	struct sock *sk = (void *)args[0];
	u8 before = args[1];
	struct record *r;
	u16 protocol;

	if (args[2] != TCP_CLOSE || before == TCP_CLOSE)
		return 0;
	protocol = READ(&sk->sk_protocol);
	if (protocol == IPPROTO_TCP) {
		if (!READ(&((struct tcp_sock *)sk)->is_mptcp) || !is_here(sk))
			return 0;
		r = begin(sk, SUBFLOW_CLOSED, before);
		if (!r)
			return 0;
		fill_subflow(r, sk);
	} else if (protocol == IPPROTO_MPTCP && is_here(sk)) {
		r = begin(sk, CONNECTION_CLOSED, before);
		if (!r)
			return 0;
		r->token = READ(&((struct mptcp_sock *)sk)->token);
		r->error = READ(&sk->sk_err);
	} else {
		return 0;
	}
	bpf_ringbuf_submit(r, 0);
	return 0;
}
