/* Reads many sockets in one call, and recognises acks that differ from the last one of their socket in the number only.
 *
 * The sockets stand in an epoll set of their own, each at a place that the caller has chosen. One thread uses a reader.
 */
#ifndef HUAHUO_ACKS_H
#define HUAHUO_ACKS_H

#include <errno.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define READS_MAX 256 /* sockets in one call: others of the loop wait for no more */
#define READ_BYTES_MAX 512
#define ACKS_A_READ_MAX 4
#define HEAD_BYTES 6 /* of a masked frame with a payload of at most 125 bytes: RFC 6455, 5.2 */
#define PAYLOAD_BYTES_MAX 125
#define DIGITS_MAX 15
#define FRONT_BYTES_MAX (PAYLOAD_BYTES_MAX - 3)
#define PLACES (1 << 16)

struct watched {
    int fd;
    uint32_t size; /* 0: nobody is at this place */
    unsigned char front[FRONT_BYTES_MAX]; /* what an ack has before its number */
};

struct came {
    uint32_t place;
    int size, acks; /* -1: nothing. 0: the end, or an error. All is `acks` acks, if that is not 0 */
    uint64_t seqs[ACKS_A_READ_MAX];
    unsigned char data[READ_BYTES_MAX];
};

struct ack_reader {
    int poller;
    struct epoll_event events[READS_MAX];
    struct came came[READS_MAX];
    struct watched watched[PLACES];
};

/* The size of the frame that `data` begins with, if it is such an ack, else 0. */
static int ack_at(const struct watched *w, const unsigned char *data, int size, uint64_t *seq) {
    if (size < HEAD_BYTES || data[0] != 0x81 || data[1] < 0x80 || data[1] > 0x80 + PAYLOAD_BYTES_MAX) return 0;
    const unsigned char *mask = data + 2, *text = data + HEAD_BYTES;
    uint32_t length = data[1] - 0x80u, digits = length - w->size - 2, at = 0;
    if ((uint32_t)size < HEAD_BYTES + length || length < w->size + 3 || digits > DIGITS_MAX) return 0;
    for (; at < w->size; at++)
        if ((text[at] ^ mask[at & 3]) != w->front[at]) return 0;
    for (*seq = 0; at < length - 2; at++) {
        unsigned digit = (unsigned)(text[at] ^ mask[at & 3]) - '0';
        if (digit > 9 || (digit == 0 && at == w->size && digits > 1)) return 0;
        *seq = *seq * 10 + digit;
    }
    for (; at < length; at++)
        if ((text[at] ^ mask[at & 3]) != '}') return 0;
    return (int)(HEAD_BYTES + length);
}

static void read_one(const struct ack_reader *r, const struct epoll_event *event, struct came *c) {
    const struct watched *w = &r->watched[event->data.u32];
    c->place = event->data.u32;
    c->size = c->acks = 0;
    if (event->events != EPOLLIN) return; /* nothing is read: the transport reads what is left, and how it ends */
    ssize_t size = recv(w->fd, c->data, sizeof c->data, MSG_DONTWAIT);
    c->size = size < 0 && (errno == EAGAIN || errno == EINTR) ? -1 : size < 0 ? 0 : (int)size;
    for (int at = 0, n; at < c->size; at += n) {
        n = c->acks < ACKS_A_READ_MAX ? ack_at(w, c->data + at, c->size - at, &c->seqs[c->acks]) : 0;
        c->acks = n ? c->acks + 1 : 0;
        if (!n) return;
    }
}

/* Returns how many of `came` are filled. */
static int read_ready(struct ack_reader *r) {
    int count = epoll_wait(r->poller, r->events, READS_MAX, 0);
    for (int i = 0; i < count; i++) read_one(r, &r->events[i], &r->came[i]);
    return count;
}

#endif
