/* The floor of everybody who sends each event to each connection by itself: a WebSocket server that does nothing else.
 *
 * It publishes as bench/source.py does, with its commands `upto`, `rate`, `feeds` and `feeds_rate` as lines on stdin.
 * A client's room is its path, /0 is the group. It keeps nothing, checks nothing, and waits for a receiver whose
 * socket is full.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define USERS_MAX 200000
#define FRAME_BYTES 1024
#define AT_ONCE 256

static const char *FRONT = "{\"type\":\"check_progress\",\"~\":%llu,\"t\":%llu,";
static const char *BACK = "\"email_id\":1,\"progress\":75,\"message\":\"正在检查邮件 15/20\",\"check_id\":88,"
                          "\"timestamp\":\"2026-11-24T10:31:07.114Z\"}";

static int poller, listener, answers, members, group[USERS_MAX], feed[USERS_MAX];
static uint64_t number, target, numbers[USERS_MAX];

static void die(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void send_rest(int fd, const uint8_t *data, size_t size) {
    while (size) {
        ssize_t n = send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) return; /* the client has gone */
        if (n < 0) {
            struct pollfd room = {.fd = fd, .events = POLLOUT};
            poll(&room, 1, -1);
            continue;
        }
        data += n;
        size -= (size_t)n;
    }
}

static size_t make_frame(uint8_t *frame, uint64_t n, uint64_t at_ns) {
    char text[FRAME_BYTES];
    int size = sprintf(text, FRONT, (unsigned long long)n, (unsigned long long)at_ns);
    size += sprintf(text + size, "%s", BACK);
    frame[0] = 0x81;
    frame[1] = 126;
    frame[2] = (uint8_t)(size >> 8);
    frame[3] = (uint8_t)size;
    memcpy(frame + 4, text, (size_t)size);
    return (size_t)size + 4;
}

static void publish(unsigned user, uint64_t at_ns) {
    static uint8_t frame[FRAME_BYTES];
    size_t size = make_frame(frame, user ? ++numbers[user] : ++number, at_ns);
    if (user && feed[user]) send_rest(feed[user], frame, size);
    for (int i = 0; !user && i < members; i++) send_rest(group[i], frame, size);
}

static void answer(uint64_t published, uint64_t start_ns, double late50, double late99) {
    dprintf(answers, "{\"published\":%llu,\"start_ns\":%llu,\"end_ns\":%llu,\"late_p50_ms\":%f,\"late_p99_ms\":%f}\n",
            (unsigned long long)published, (unsigned long long)start_ns, (unsigned long long)now_ns(), late50, late99);
}

static double field(const char *line, const char *name) {
    const char *at = strstr(line, name);
    return at ? strtod(at + strlen(name), NULL) : 0;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void wait_until(uint64_t due_ns) {
    struct timespec t = {.tv_sec = (time_t)(due_ns / 1000000000u), .tv_nsec = (long)(due_ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) {}
}

/* `users`: how many take turns, 0 for the group. Receivers of this floor send nothing meanwhile. */
static void open_loop(double per_s, unsigned count, unsigned users) {
    double *late = calloc(count, sizeof *late);
    uint64_t start = now_ns();
    for (unsigned n = 0; n < count; n++) {
        uint64_t due = start + (uint64_t)(n / per_s * 1e9);
        if (now_ns() < due) wait_until(due);
        late[n] = (double)(now_ns() - due) / 1e6;
        publish(users ? n % users + 1 : 0, due);
    }
    qsort(late, count, sizeof *late, compare);
    answer(count, start, late[count / 2], late[count * 99ull / 100]);
    free(late);
}

static void feeds(unsigned users, double seconds) {
    uint64_t start = now_ns(), published = 0;
    while ((double)(now_ns() - start) < seconds * 1e9)
        for (int i = 0; i < AT_ONCE; i++) publish((unsigned)(published++ % users) + 1, now_ns());
    answer(published, start, 0, 0);
}

static void obey(const char *line) {
    double per_s = field(line, "\"per_s\": ");
    unsigned count = (unsigned)field(line, "\"count\": "), users = (unsigned)field(line, "\"users\": ");
    if (strstr(line, "\"upto\"")) target = (uint64_t)field(line, "\"n\": ");
    else if (strstr(line, "\"rate\"")) open_loop(per_s, count, 0);
    else if (strstr(line, "\"feeds_rate\"")) open_loop(per_s, count, users);
    else if (strstr(line, "\"feeds\"")) feeds(users, field(line, "\"seconds\": "));
    if (target < number) target = number;
}

static void accept_one(void) {
    static const char hello[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
                                "\x81\x10{\"type\":\"ready\"}";
    int fd = accept(listener, NULL, NULL), one = 1;
    if (fd < 0) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    char request[2048];
    size_t size = 0;
    do {
        ssize_t n = recv(fd, request + size, sizeof request - 1 - size, 0);
        if (n <= 0) {
            close(fd);
            return;
        }
        size += (size_t)n;
        request[size] = 0;
    } while (!strstr(request, "\r\n\r\n") && size < sizeof request - 1);
    unsigned room = (unsigned)strtoul(request + sizeof "GET /" - 1, NULL, 10);
    if (room >= USERS_MAX || members == USERS_MAX) die("room");
    if (room) feed[room] = fd;
    else group[members++] = fd;
    send_rest(fd, (const uint8_t *)hello, sizeof hello - 1);
}

static void read_commands(void) {
    static char lines[8192];
    static size_t size;
    ssize_t n = read(0, lines + size, sizeof lines - 1 - size);
    if (n <= 0) exit(0);
    size += (size_t)n;
    lines[size] = 0;
    char *end;
    while ((end = strchr(lines, '\n'))) {
        *end = 0;
        obey(lines);
        size -= (size_t)(end + 1 - lines);
        memmove(lines, end + 1, size + 1);
    }
}

static void watch(int fd) {
    struct epoll_event want = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &want)) die("epoll_ctl");
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    answers = getenv("BENCH_ANSWERS_FD") ? atoi(getenv("BENCH_ANSWERS_FD")) : 1;
    struct sockaddr_in at = {.sin_family = AF_INET};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t at_size = sizeof at;
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (void *)&at, sizeof at) || listen(listener, 4096)) die("listen");
    getsockname(listener, (void *)&at, &at_size);
    poller = epoll_create1(0);
    watch(0);
    watch(listener);
    dprintf(answers, "{\"port\":%d}\n", ntohs(at.sin_port));
    for (;;) {
        struct epoll_event happened;
        if (epoll_wait(poller, &happened, 1, number < target ? 0 : -1) > 0) {
            if (happened.data.fd == listener) accept_one();
            else read_commands();
        }
        for (int i = 0; i < AT_ONCE && number < target; i++) publish(0, now_ns());
    }
}
