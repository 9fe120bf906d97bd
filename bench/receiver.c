/* Holds many WebSocket connections and counts what arrives, as cheaply as it can.
 *
 *     receiver SCRIPT REPORT
 *
 * SCRIPT says what to send and what to wait for, per connection (see receivers.py); REPORT is a file that
 * is mapped and read by the harness while this runs (see receivers.py). Every event carries its number and
 * the time of its publication as  ~":NUMBER,"t":NANOSECONDS  and '~' occurs nowhere else, so that an
 * event costs one memchr and a few digits. Numbers must follow each other: a jump is counted as lost,
 * a step back as doubled.
 * A line on stdin ends it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CONNECTING_MAX 64
#define READ_BYTES (256 << 10)
#define SETUP_BYTES (32 << 10)
#define ACK_NS 250000000u
#define SUB_BITS 5
#define BUCKETS (64 << SUB_BITS)

struct report {
    uint64_t ready, closed, events, lost, doubled, bytes, frames, lowest, last_ns, done;
    uint64_t buckets[BUCKETS];
    uint64_t last[]; /* the last number of each connection */
};

struct step {
    const uint8_t *send, *expect;
    uint32_t send_len, expect_len;
};

enum scan { SEEK, BEFORE_NUMBER, NUMBER, BEFORE_TIME, TIME };

struct connection {
    int fd;
    uint32_t step, steps, setup_len, ack_prefix_len, head_len;
    struct step *script;
    const uint8_t *ack_prefix;
    uint8_t *setup; /* what came since the last step; NULL once ready */
    uint8_t head[14], control[125];
    uint8_t opcode, control_len, upgraded;
    uint64_t left; /* bytes of payload still to come */
    enum scan scan;
    uint64_t number, time, last, acked;
};

static struct report *report;
static struct connection *connections;
static uint32_t count, ack_every, eio, started, connecting;
static uint64_t goal; /* a connection that got this number is done (0: none) */
static uint16_t port;
static int poller;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void put(struct connection *c, const uint8_t *data, size_t size) {
    /* Little is ever sent, so the socket's own buffer is enough; a full one is a fault of the harness. */
    if (send(c->fd, data, size, MSG_NOSIGNAL) != (ssize_t)size && errno != EPIPE && errno != ECONNRESET)
        die("send");
}

static void put_frame(struct connection *c, uint8_t opcode, const uint8_t *payload, size_t size) {
    uint8_t frame[512];
    size_t head = size < 126 ? 2 : 4;
    if (size + 8 > sizeof frame) die("frame");
    frame[0] = 0x80 | opcode;
    frame[1] = 0x80 | (size < 126 ? (uint8_t)size : 126);
    if (size >= 126) { frame[2] = size >> 8; frame[3] = size & 255; }
    memset(frame + head, 0, 4); /* a mask of zeros is a mask */
    memcpy(frame + head + 4, payload, size);
    put(c, frame, head + 4 + size);
}

static void ack(struct connection *c) {
    uint8_t text[480];
    memcpy(text, c->ack_prefix, c->ack_prefix_len);
    int digits = sprintf((char *)text + c->ack_prefix_len, "%llu}}", (unsigned long long)c->last);
    put_frame(c, 1, text, c->ack_prefix_len + digits);
    c->acked = c->last;
}

static void bucket(uint64_t ns) {
    uint64_t us = ns / 1000;
    unsigned top = us < (1 << SUB_BITS) ? 0 : 63 - __builtin_clzll(us) - SUB_BITS + 1;
    unsigned sub = top ? (us >> (top - 1)) & ((1 << SUB_BITS) - 1) : us;
    report->buckets[(top << SUB_BITS) + sub]++;
}

static void event(struct connection *c, uint64_t now) {
    report->events++;
    if (c->number == c->last + 1) c->last = c->number;
    else if (c->number > c->last) { report->lost += c->number - c->last - 1; c->last = c->number; }
    else report->doubled++;
    report->last[c - connections] = c->last;
    if (goal && c->last == goal) report->done++;
    if (c->time) bucket(now > c->time ? now - c->time : 0);
}

static void scan(struct connection *c, const uint8_t *p, const uint8_t *end, uint64_t now) {
    while (p < end) {
        switch (c->scan) {
        case SEEK:
            p = memchr(p, '~', end - p);
            if (!p) return;
            p++;
            c->scan = BEFORE_NUMBER;
            c->number = c->time = 0;
            /* fall through */
        case BEFORE_NUMBER:
            while (p < end && (*p < '0' || *p > '9')) p++;
            if (p == end) return;
            c->scan = NUMBER;
            /* fall through */
        case NUMBER:
            while (p < end && *p >= '0' && *p <= '9') c->number = c->number * 10 + (*p++ - '0');
            if (p == end) return;
            c->scan = BEFORE_TIME;
            /* fall through */
        case BEFORE_TIME:
            while (p < end && (*p < '0' || *p > '9')) p++;
            if (p == end) return;
            c->scan = TIME;
            /* fall through */
        case TIME:
            while (p < end && *p >= '0' && *p <= '9') c->time = c->time * 10 + (*p++ - '0');
            if (p == end) return;
            c->scan = SEEK;
            event(c, now);
        }
    }
}

static void next_step(struct connection *c);

static void expect(struct connection *c, const uint8_t *data, size_t size) {
    if (!c->setup) return;
    if (size > SETUP_BYTES / 2) { data += size - SETUP_BYTES / 2; size = SETUP_BYTES / 2; }
    if (c->setup_len + size > SETUP_BYTES) {
        memmove(c->setup, c->setup + c->setup_len - SETUP_BYTES / 2, SETUP_BYTES / 2);
        c->setup_len = SETUP_BYTES / 2;
    }
    memcpy(c->setup + c->setup_len, data, size);
    c->setup_len += size;
    struct step *s = &c->script[c->step];
    if (memmem(c->setup, c->setup_len, s->expect, s->expect_len)) {
        c->step++;
        next_step(c);
    }
}

static void next_step(struct connection *c) {
    c->setup_len = 0;
    if (c->step < c->steps) {
        put(c, c->script[c->step].send, c->script[c->step].send_len);
        return;
    }
    free(c->setup);
    c->setup = NULL;
    connecting--;
    report->ready++;
}

static void payload(struct connection *c, const uint8_t *p, size_t size, uint64_t now) {
    if (c->opcode >= 8) { /* control */
        memcpy(c->control + c->control_len, p, size);
        c->control_len += size;
        if (c->left == size && c->opcode == 9) put_frame(c, 10, c->control, c->control_len);
        return;
    }
    if (eio && c->left == size && size == 1 && *p == '2') { put_frame(c, 1, (const uint8_t *)"3", 1); return; }
    scan(c, p, p + size, now);
    expect(c, p, size);
}

static void frames(struct connection *c, const uint8_t *p, const uint8_t *end, uint64_t now) {
    while (p < end) {
        if (c->left) {
            size_t size = (uint64_t)(end - p) < c->left ? (size_t)(end - p) : (size_t)c->left;
            payload(c, p, size, now);
            c->left -= size;
            p += size;
            continue;
        }
        c->head[c->head_len++] = *p++;
        if (c->head_len < 2) continue;
        uint8_t mark = c->head[1] & 127;
        uint32_t need = mark == 127 ? 10 : mark == 126 ? 4 : 2;
        if (c->head_len < need) continue;
        c->left = mark;
        if (mark >= 126) {
            c->left = 0;
            for (uint32_t i = 2; i < need; i++) c->left = c->left << 8 | c->head[i];
        }
        c->opcode = c->head[0] & 15;
        c->control_len = 0;
        c->head_len = 0;
        report->frames++;
        if (c->left > 125 && c->opcode >= 8) die("control frame");
        if (!c->left && c->opcode == 9) put_frame(c, 10, c->control, 0);
    }
}

static void closed(struct connection *c) {
    close(c->fd);
    c->fd = -1;
    report->closed++;
    if (c->setup) connecting--;
}

static void readable(struct connection *c) {
    static uint8_t buffer[READ_BYTES];
    ssize_t got = recv(c->fd, buffer, sizeof buffer, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) { closed(c); return; }
    uint64_t now = now_ns(), before = report->events;
    const uint8_t *p = buffer, *end = buffer + got;
    report->bytes += got;
    if (!c->upgraded) { /* HTTP: the headers end where the first step's expectation does */
        size_t old = c->setup_len;
        if (old + got > SETUP_BYTES) die("upgrade answer");
        memcpy(c->setup + old, buffer, got);
        c->setup_len += got;
        uint8_t *stop = memmem(c->setup, c->setup_len, "\r\n\r\n", 4);
        if (!stop) return;
        if (memcmp(c->setup + 9, "101", 3)) { fprintf(stderr, "%.200s\n", c->setup); exit(1); }
        p = buffer + (stop + 4 - c->setup) - old;
        c->upgraded = 1;
        c->step++;
        next_step(c);
    }
    frames(c, p, end, now);
    if (report->events != before) report->last_ns = now;
    if (ack_every && c->last >= c->acked + ack_every) ack(c);
}

static void start_one(void) {
    struct connection *c = &connections[started++];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct sockaddr_in from = {.sin_family = AF_INET};
    /* A pair of addresses has some 28,000 ports: take further loopback addresses as sources. */
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + started / 10000);
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0) die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    /* The port is chosen when both ends are known; else the search alone costs seconds. */
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    struct linger gone = {.l_onoff = 1, .l_linger = 0}; /* no port waits for minutes after a round */
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &gone, sizeof gone);
    if (bind(c->fd, (struct sockaddr *)&from, sizeof from)) die("bind");
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to)) die("connect");
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->setup = malloc(SETUP_BYTES);
    connecting++;
    struct epoll_event want = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &want);
    next_step(c);
}

static uint32_t u32(const uint8_t **p) {
    uint32_t v;
    memcpy(&v, *p, 4);
    *p += 4;
    return v;
}

static const uint8_t *bytes(const uint8_t **p, uint32_t *size) {
    *size = u32(p);
    const uint8_t *at = *p;
    *p += *size;
    return at;
}

static void read_script(const char *path) {
    int fd = open(path, O_RDONLY);
    struct stat s;
    if (fd < 0 || fstat(fd, &s)) die(path);
    const uint8_t *p = mmap(NULL, s.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    port = u32(&p);
    ack_every = u32(&p);
    eio = u32(&p);
    goal = u32(&p);
    count = u32(&p);
    connections = calloc(count, sizeof *connections);
    for (uint32_t i = 0; i < count; i++) {
        struct connection *c = &connections[i];
        c->last = c->acked = u32(&p);
        c->ack_prefix = bytes(&p, &c->ack_prefix_len);
        c->steps = u32(&p);
        c->script = calloc(c->steps, sizeof *c->script);
        for (uint32_t j = 0; j < c->steps; j++) {
            c->script[j].send = bytes(&p, &c->script[j].send_len);
            c->script[j].expect = bytes(&p, &c->script[j].expect_len);
        }
    }
}

static void map_report(const char *path) {
    size_t size = sizeof *report + 8 * (size_t)count;
    int fd = open(path, O_RDWR);
    if (fd < 0 || ftruncate(fd, size)) die(path);
    report = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (report == MAP_FAILED) die("mmap");
    for (uint32_t i = 0; i < count; i++) report->last[i] = connections[i].last;
}

/* What is left of a window is acked a quarter second later: each connection has its moment. */
static void ack_some(uint64_t passed_ns) {
    static uint32_t next;
    uint64_t due = 1 + count * passed_ns / ACK_NS;
    for (uint64_t i = 0; i < due && i < count; i++, next++) {
        struct connection *c = &connections[next % count];
        if (c->fd >= 0 && !c->setup && c->last > c->acked) ack(c);
    }
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    signal(SIGPIPE, SIG_IGN);
    read_script(argv[1]);
    map_report(argv[2]);
    poller = epoll_create1(0);
    struct epoll_event in = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poller, EPOLL_CTL_ADD, 0, &in);
    uint64_t looked = now_ns();
    for (;;) {
        struct epoll_event happened[256];
        while (started < count && connecting < CONNECTING_MAX) start_one();
        int n = epoll_wait(poller, happened, 256, 5);
        for (int i = 0; i < n; i++) {
            if (!happened[i].data.ptr) return 0;
            readable(happened[i].data.ptr);
        }
        uint64_t now = now_ns();
        if (now - looked > 2000000) { /* how far is the slowest? */
            uint64_t low = UINT64_MAX;
            for (uint32_t i = 0; i < count; i++) if (report->last[i] < low) low = report->last[i];
            report->lowest = low;
            if (ack_every) ack_some(now - looked);
            looked = now;
        }
    }
}
