/* As much of io_uring as many sends in one system call need, by the kernel's interface alone: no library.
 *
 * One thread owns a ring. Each call of `ring_submit` hands over what `ring_put_send` prepared and waits until all of it
 * has ended; sends do not wait for room in a socket (MSG_DONTWAIT), so that is at once.
 */
#ifndef HUAHUO_URING_H
#define HUAHUO_URING_H

#include <errno.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RING_SENDS_MAX 512 /* as many as one submission may hold */

struct ring {
    int fd;
    unsigned *sq_tail, *sq_mask, *cq_head, *cq_tail, *cq_mask;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
    void *rings;
    size_t rings_size, sqes_size;
    unsigned put; /* prepared, not submitted */
};

static void ring_close(struct ring *r) {
    if (r->sqes) munmap(r->sqes, r->sqes_size);
    if (r->rings) munmap(r->rings, r->rings_size);
    if (r->fd >= 0) close(r->fd);
    r->sqes = NULL;
    r->rings = NULL;
    r->fd = -1;
}

/* 0, or a negative errno: the kernel is older than 6.1, or a container forbids the call. */
static int ring_open(struct ring *r) {
    struct io_uring_params p;
    memset(r, 0, sizeof *r);
    memset(&p, 0, sizeof p);
    /* The kernel then does no work for this ring on interrupts, only within our own calls. */
    p.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    r->fd = (int)syscall(__NR_io_uring_setup, RING_SENDS_MAX, &p);
    if (r->fd < 0) return -errno;
    if (!(p.features & IORING_FEAT_SINGLE_MMAP)) {
        ring_close(r);
        return -ENOSYS;
    }
    size_t submissions = p.sq_off.array + p.sq_entries * sizeof(unsigned);
    size_t completions = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
    r->rings_size = submissions > completions ? submissions : completions;
    r->sqes_size = p.sq_entries * sizeof(struct io_uring_sqe);
    char *rings = mmap(NULL, r->rings_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQ_RING);
    void *sqes = mmap(NULL, r->sqes_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQES);
    r->rings = rings == MAP_FAILED ? NULL : rings;
    r->sqes = sqes == MAP_FAILED ? NULL : sqes;
    if (!r->rings || !r->sqes) {
        int error = errno;
        ring_close(r);
        return -error;
    }
    r->sq_tail = (unsigned *)(rings + p.sq_off.tail);
    r->sq_mask = (unsigned *)(rings + p.sq_off.ring_mask);
    r->cq_head = (unsigned *)(rings + p.cq_off.head);
    r->cq_tail = (unsigned *)(rings + p.cq_off.tail);
    r->cq_mask = (unsigned *)(rings + p.cq_off.ring_mask);
    r->cqes = (struct io_uring_cqe *)(rings + p.cq_off.cqes);
    unsigned *places = (unsigned *)(rings + p.sq_off.array);
    for (unsigned i = 0; i < p.sq_entries; i++) places[i] = i; /* the n-th place always names the n-th entry */
    return 0;
}

/* At most RING_SENDS_MAX before a submission. `data` must stay until then. */
static void ring_put_send(struct ring *r, int fd, const void *data, size_t size, uint64_t about) {
    unsigned tail = *r->sq_tail;
    struct io_uring_sqe *e = &r->sqes[tail & *r->sq_mask];
    memset(e, 0, sizeof *e);
    e->opcode = IORING_OP_SEND;
    e->fd = fd;
    e->addr = (uint64_t)(uintptr_t)data;
    e->len = size > INT32_MAX ? INT32_MAX : (uint32_t)size;
    e->msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    e->user_data = about;
    __atomic_store_n(r->sq_tail, tail + 1, __ATOMIC_RELEASE);
    r->put++;
}

/* Returns how many sends have ended. After an error these are fewer than were put: then the ring must be closed. The
 * first `seen` of those that were put have been handed over, the others have not.
 */
static unsigned ring_submit(struct ring *r, unsigned *seen) {
    unsigned put = r->put;
    r->put = 0;
    *seen = 0;
    for (;;) {
        unsigned ended = __atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE) - *r->cq_head;
        if (*seen == put && ended >= put) return ended;
        long n = syscall(__NR_io_uring_enter, r->fd, put - *seen, put - ended, IORING_ENTER_GETEVENTS, NULL, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 || (n == 0 && *seen < put)) return __atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE) - *r->cq_head;
        *seen += (unsigned)n;
    }
}

/* One of the sends that have ended: which, and what `send` would have returned, or a negative errno. */
static int ring_take(struct ring *r, uint64_t *about) {
    unsigned head = *r->cq_head;
    struct io_uring_cqe *e = &r->cqes[head & *r->cq_mask];
    int result = e->res;
    *about = e->user_data;
    __atomic_store_n(r->cq_head, head + 1, __ATOMIC_RELEASE);
    return result;
}

#endif
