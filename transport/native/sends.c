/* Writes frames to many sockets in one call: by `send`, or by io_uring with up to 512 of them a system call.
 *
 *     open_ring() -> ring                            OSError: this kernel or container has no io_uring
 *     send_each(ring | None, fds, frames) -> list    [(index, written)] of those that were not written whole
 *
 * `fds` is a list of integers, and `frames` a list of as many `bytes`. `written` is a number of bytes, or a negative
 * errno: -EAGAIN means that nothing was written, -EIO that this is not known. A descriptor occurs once in a call.
 *
 * Only the limited API of CPython 3.12 is used, so one build serves all later versions.
 */
#define Py_LIMITED_API 0x030C0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "uring.h"

#define RING "huahuo.ring"
#define LET_OTHERS_RUN_FROM 4 /* sends: for fewer, giving up the interpreter's lock costs more than it brings */

struct job {
    int fd;
    const char *data;
    Py_ssize_t size, written;
};

static void by_send(struct job *jobs, Py_ssize_t count) {
    for (Py_ssize_t i = 0; i < count; i++) {
        do {
            jobs[i].written = send(jobs[i].fd, jobs[i].data, (size_t)jobs[i].size, MSG_DONTWAIT | MSG_NOSIGNAL);
        } while (jobs[i].written < 0 && errno == EINTR);
        if (jobs[i].written < 0) jobs[i].written = -errno;
    }
}

/* After a fault of the ring it is closed, and the jobs that it never saw count as not written. */
static void by_ring(struct ring *ring, struct job *jobs, Py_ssize_t count) {
    for (Py_ssize_t at = 0; at < count;) {
        Py_ssize_t end = count - at < RING_SENDS_MAX ? count : at + RING_SENDS_MAX;
        if (ring->fd < 0) {
            by_send(jobs + at, count - at);
            return;
        }
        for (Py_ssize_t i = at; i < end; i++) {
            jobs[i].written = -EIO;
            ring_put_send(ring, jobs[i].fd, jobs[i].data, (size_t)jobs[i].size, (uint64_t)i);
        }
        unsigned seen, ended = ring_submit(ring, &seen);
        for (unsigned n = 0; n < ended; n++) {
            uint64_t i;
            int written = ring_take(ring, &i);
            if (i < (uint64_t)count) jobs[i].written = written;
        }
        if (ended < (unsigned)(end - at)) {
            for (Py_ssize_t i = at + seen; i < end; i++) jobs[i].written = -EAGAIN;
            ring_close(ring);
        }
        at = end;
    }
}

/* Returns 0, or -1 with an exception set. */
static int read_jobs(PyObject *fds, PyObject *frames, struct job *jobs, Py_ssize_t count) {
    for (Py_ssize_t i = 0; i < count; i++) {
        char *data;
        long fd = PyLong_AsLong(PyTuple_GetItem(fds, i));
        if (fd == -1 && PyErr_Occurred()) return -1;
        if (fd < 0 || fd > INT_MAX) {
            PyErr_SetString(PyExc_ValueError, "a file descriptor is not negative");
            return -1;
        }
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(frames, i), &data, &jobs[i].size)) return -1;
        jobs[i].fd = (int)fd;
        jobs[i].data = data;
    }
    return 0;
}

static PyObject *short_ones(const struct job *jobs, Py_ssize_t count) {
    PyObject *list = PyList_New(0);
    for (Py_ssize_t i = 0; list && i < count; i++) {
        if (jobs[i].written == jobs[i].size) continue;
        PyObject *one = Py_BuildValue("(nn)", i, jobs[i].written);
        if (!one || PyList_Append(list, one)) Py_CLEAR(list);
        Py_XDECREF(one);
    }
    return list;
}

static PyObject *send_each(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *holder, *fd_list, *frame_list, *result = NULL;
    struct ring *ring = NULL;
    if (!PyArg_ParseTuple(args, "OOO:send_each", &holder, &fd_list, &frame_list)) return NULL;
    if (holder != Py_None && !(ring = PyCapsule_GetPointer(holder, RING))) return NULL;
    /* Tuples keep the frames alive while other threads run, whatever becomes of the lists. */
    PyObject *fds = PySequence_Tuple(fd_list), *frames = fds ? PySequence_Tuple(frame_list) : NULL;
    Py_ssize_t count = frames ? PyTuple_Size(fds) : 0;
    struct job *jobs = frames ? PyMem_Calloc((size_t)count + 1, sizeof *jobs) : NULL;
    if (!frames) goto end;
    if (!jobs) {
        PyErr_NoMemory();
        goto end;
    }
    if (PyTuple_Size(frames) != count) {
        PyErr_SetString(PyExc_ValueError, "there are as many frames as file descriptors");
        goto end;
    }
    if (read_jobs(fds, frames, jobs, count)) goto end;
    PyThreadState *others = count >= LET_OTHERS_RUN_FROM ? PyEval_SaveThread() : NULL;
    if (ring && count > 1) by_ring(ring, jobs, count);
    else by_send(jobs, count);
    if (others) PyEval_RestoreThread(others);
    result = short_ones(jobs, count);
end:
    PyMem_Free(jobs);
    Py_XDECREF(frames);
    Py_XDECREF(fds);
    return result;
}

static void free_ring(PyObject *holder) {
    struct ring *ring = PyCapsule_GetPointer(holder, RING);
    ring_close(ring);
    PyMem_Free(ring);
}

static PyObject *open_ring(PyObject *module, PyObject *nothing) {
    (void)module;
    (void)nothing;
    struct ring *ring = PyMem_Calloc(1, sizeof *ring);
    if (!ring) return PyErr_NoMemory();
    int error = ring_open(ring);
    if (error) {
        PyMem_Free(ring);
        errno = -error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    PyObject *holder = PyCapsule_New(ring, RING, free_ring);
    if (!holder) {
        ring_close(ring);
        PyMem_Free(ring);
    }
    return holder;
}

static PyMethodDef methods[] = {
    {"open_ring", open_ring, METH_NOARGS, "A ring of io_uring, for the calling thread."},
    {"send_each", send_each, METH_VARARGS, "Write each frame to its descriptor; tells which were not written whole."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_sends", "Writes frames to many sockets in one call.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__sends(void) { return PyModuleDef_Init(&definition); }
