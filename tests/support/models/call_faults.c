/* Strikes at one system call of a process: the call number `at` that changes a file below `root` does not
 * happen. It fails with `error`, or, if that is 0, the process is killed. LD_PRELOAD; see call_faults.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char root[PATH_MAX];
static long at, seen;
static int error;

void call_faults_arm(const char *below, long number, int fails_with) {
    snprintf(root, sizeof root, "%s", below);
    at = number, error = fails_with, seen = 0;
}

long call_faults_seen(void) { return seen; }

static int struck(const char *path) {
    if (!root[0] || strncmp(path, root, strlen(root)) || ++seen != at) return 0;
    if (!error) raise(SIGKILL);
    errno = error;
    return 1;
}

static int struck_at(int file) {
    char link[64], path[PATH_MAX];
    if (!root[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return struck(path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int f, const void *b, size_t n) { return struck_at(f) ? -1 : REAL(write)(f, b, n); }
ssize_t pwrite(int f, const void *b, size_t n, off_t o) { return struck_at(f) ? -1 : REAL(pwrite)(f, b, n, o); }
ssize_t pwrite64(int f, const void *b, size_t n, off64_t o) { return struck_at(f) ? -1 : REAL(pwrite64)(f, b, n, o); }
int fsync(int f) { return struck_at(f) ? -1 : REAL(fsync)(f); }
int fdatasync(int f) { return struck_at(f) ? -1 : REAL(fdatasync)(f); }
int ftruncate(int f, off_t n) { return struck_at(f) ? -1 : REAL(ftruncate)(f, n); }
int ftruncate64(int f, off64_t n) { return struck_at(f) ? -1 : REAL(ftruncate64)(f, n); }
int rename(const char *a, const char *b) { return struck(b) ? -1 : REAL(rename)(a, b); }
int unlink(const char *p) { return struck(p) ? -1 : REAL(unlink)(p); }
