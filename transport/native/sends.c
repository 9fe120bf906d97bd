/* Writes frames to many sockets in one call, and reads acks of many sockets in one call.
 *
 *     send_each(fds, frames) -> list                 [(index, written)] of those that were not written whole
 *
 * `fds` is a list of integers, and `frames` a list of as many `bytes`. `written` is a number of bytes, or a negative
 * errno: -EAGAIN means that nothing was written. A descriptor occurs once in a call.
 *
 *     open_acks() -> (reader, descriptor)            the descriptor is readable while there is something to read
 *     watch_acks(reader, place, fd, front)           `front`: what an ack of this socket has before its number
 *     watch_acks(reader, place)                      no more; must be called before the descriptor is closed
 *     read_acks(reader) -> list                      [(place, seq of an ack | bytes)] of up to 256 sockets
 *
 * Bytes are all that was read of a socket at once, in which there was something else; none: the socket is to be read by
 * somebody else, who will find the end of its stream or an error.
 *
 * Only the limited API of CPython 3.12 is used, so one build serves all later versions. It takes no format with "#":
 * built with the headers of 3.13, that is refused by 3.12.
 */
#define Py_LIMITED_API 0x030C0000
#include <Python.h>
#include <stdlib.h>
#include <string.h>

#include "acks.h"

#define ACKS "huahuo.acks"
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
    PyObject *fd_list, *frame_list, *result = NULL;
    if (!PyArg_ParseTuple(args, "OO:send_each", &fd_list, &frame_list)) return NULL;
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
    by_send(jobs, count);
    if (others) PyEval_RestoreThread(others);
    result = short_ones(jobs, count);
end:
    PyMem_Free(jobs);
    Py_XDECREF(frames);
    Py_XDECREF(fds);
    return result;
}

static void free_acks(PyObject *holder) {
    struct ack_reader *reader = PyCapsule_GetPointer(holder, ACKS);
    close(reader->poller);
    free(reader);
}

static PyObject *open_acks(PyObject *module, PyObject *nothing) {
    (void)module;
    (void)nothing;
    struct ack_reader *reader = calloc(1, sizeof *reader); /* most of its pages are never written to */
    if (!reader) return PyErr_NoMemory();
    reader->poller = epoll_create1(EPOLL_CLOEXEC);
    PyObject *holder = reader->poller < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyCapsule_New(reader, ACKS, free_acks);
    if (holder) return Py_BuildValue("(Ni)", holder, reader->poller);
    if (reader->poller >= 0) close(reader->poller);
    free(reader);
    return NULL;
}

static PyObject *watch_acks(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *holder, *bytes = NULL;
    struct ack_reader *reader;
    char *front = NULL;
    Py_ssize_t size = 0, place;
    int fd = -1;
    if (!PyArg_ParseTuple(args, "On|iS:watch_acks", &holder, &place, &fd, &bytes)) return NULL;
    if (bytes && PyBytes_AsStringAndSize(bytes, &front, &size) < 0) return NULL;
    if (!(reader = PyCapsule_GetPointer(holder, ACKS))) return NULL;
    struct watched *one = place < 0 || place >= PLACES ? NULL : &reader->watched[place];
    if (!one || (front ? fd < 0 || size < 1 || size > FRONT_BYTES_MAX : fd >= 0) || !front == !one->size) {
        PyErr_SetString(PyExc_ValueError, "no such place, descriptor or front, or the place is taken, or nobody is there");
        return NULL;
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data = {.u32 = (uint32_t)place}};
    int failed = epoll_ctl(reader->poller, front ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, front ? fd : one->fd, &event);
    if (failed && front) return PyErr_SetFromErrno(PyExc_OSError);
    one->size = (uint32_t)size;
    one->fd = fd;
    if (front) memcpy(one->front, front, (size_t)size);
    Py_RETURN_NONE;
}

static PyObject *read_acks(PyObject *module, PyObject *holder) {
    (void)module;
    struct ack_reader *reader = PyCapsule_GetPointer(holder, ACKS);
    if (!reader) return NULL;
    PyThreadState *others = PyEval_SaveThread();
    int count = read_ready(reader);
    PyEval_RestoreThread(others);
    PyObject *list = PyList_New(0);
    for (int i = 0; list && i < count; i++) {
        const struct came *c = &reader->came[i];
        for (int n = 0; list && c->size >= 0 && n < (c->acks ? c->acks : 1); n++) {
            const char *data = (const char *)c->data;
            PyObject *one = c->acks ? Py_BuildValue("(IK)", c->place, (unsigned long long)c->seqs[n])
                                    : Py_BuildValue("(IN)", c->place, PyBytes_FromStringAndSize(data, c->size));
            if (!one || PyList_Append(list, one)) Py_CLEAR(list);
            Py_XDECREF(one);
        }
    }
    return list;
}

static PyMethodDef methods[] = {
    {"send_each", send_each, METH_VARARGS, "Write each frame to its descriptor; tells which were not written whole."},
    {"open_acks", open_acks, METH_NOARGS, "A reader of acks, and its descriptor."},
    {"watch_acks", watch_acks, METH_VARARGS, "Read a socket from now on, or no more."},
    {"read_acks", read_acks, METH_O, "Read what has come; tells acks, and what is none."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_sends", "Writes frames to many sockets in one call.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__sends(void) { return PyModuleDef_Init(&definition); }
