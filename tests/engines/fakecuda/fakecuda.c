/* A small CUDA driver without a device, for tests of code that uses pycuda or cuda-python.
 *
 * Streams are lazy: a copy or a kernel is done only when somebody synchronises with it, or has
 * asked an event three times, so that code that does not wait reads what was there before. Fresh
 * memory holds 0xCD and freed memory 0xDD; it is never given back, so late use shows and does not
 * crash. What the rules of the real driver forbid, or leave undefined, is written down as a fault.
 * One thread at a time. Names and codes as in NVIDIA's "CUDA Driver API" manual.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_CONTEXT = 201, INVALID_HANDLE = 400,
    NOT_FOUND = 500, NOT_READY = 600, CAPTURE_FORBIDS = 900, CAPTURE_BROKEN = 901
};
enum { DEVICES = 2, DEEP = 32, POLLS = 3, FRESH = 0xCD, FREED = 0xDD };
enum Kind { COPY_IN, COPY_OUT, KERNEL, RECORD, WAIT };

typedef struct Context { int device, retained; } Context;
typedef struct Block { char *start; size_t size; int pinned, live; Context *context; struct Block *next; } Block;
typedef struct Event { int live, done, polls; struct Stream *stream; Context *context; } Event;
typedef struct Op { enum Kind kind; char *to, *from; size_t size; Event *event; struct Op *next; } Op;
typedef struct Queue { Op *first, **last; } Queue;
typedef struct Graph { Queue ops; int live; Context *context; } Graph;
typedef struct Stream { Queue ops; int live; Context *context; Graph *capturing; } Stream;

static Context contexts[DEVICES];
static Block *blocks;
static __thread Context *stack[DEEP];
static __thread int depth;
static char faults[4096];

/* What a test sets and reads. */
int fake_devices = DEVICES, fake_hangs, fake_error, fake_refuses_capture;
int fake_allocations, fake_limit, fake_live, fake_graph_launches;

static void fault(const char *text) {
    size_t used = strlen(faults);
    snprintf(faults + used, sizeof faults - used, "%s\n", text);
}
const char *fake_faults(void) { return faults; }
int fake_depth(void) { return depth; }
void fake_reset(void) {
    fake_devices = DEVICES;
    fake_hangs = fake_error = fake_refuses_capture = 0;
    fake_allocations = fake_limit = fake_live = fake_graph_launches = 0;
    faults[0] = 0;
}

/* Memory ---------------------------------------------------------------------------------------*/

static Context *current(void) { return depth ? stack[depth - 1] : NULL; }

static int allocate(void **start, size_t size, int pinned) {
    if (!current()) return INVALID_CONTEXT;
    if (!size) return INVALID_VALUE;
    if (fake_limit && fake_allocations >= fake_limit) return OUT_OF_MEMORY;
    Block *block = malloc(sizeof *block);
    *block = (Block){malloc(size), size, pinned, 1, current(), blocks};
    memset(block->start, FRESH, size);
    blocks = block;
    *start = block->start;
    fake_allocations++, fake_live++;
    return OK;
}

static Block *find(const char *at, size_t size, int pinned) {
    for (Block *b = blocks; b; b = b->next)
        if (b->live && b->pinned == pinned && at >= b->start && at + size <= b->start + b->size)
            return b;
    return NULL;
}

static int release(void *start, int pinned) {
    Block *block = find(start, 1, pinned);
    if (!current()) { fault("memory freed without a context"); return INVALID_CONTEXT; }
    if (!block || block->start != start) { fault("memory freed twice"); return INVALID_VALUE; }
    if (block->context != current()) fault("memory freed in another context");
    memset(block->start, FREED, block->size);
    block->live = 0, fake_live--;
    return OK;
}

int cuMemAlloc_v2(void **start, size_t size) { return allocate(start, size, 0); }
int cuMemFree_v2(void *start) { return release(start, 0); }
int cuMemHostAlloc(void **start, size_t size, unsigned flags) {
    (void)flags;
    return allocate(start, size, 1);
}
int cuMemFreeHost(void *start) { return release(start, 1); }

/* Streams --------------------------------------------------------------------------------------*/

static void push(Queue *queue, Op op) {
    Op *copy = malloc(sizeof op);
    *copy = op, copy->next = NULL;
    if (!queue->last) queue->last = &queue->first;
    *queue->last = copy, queue->last = &copy->next;
}

static void kernel(float *to, const unsigned char *from, size_t n) {
    for (size_t i = 0; i < n; i++) to[i] = from[i] / 255.0f;
}

static void run(Stream *stream, const Event *until);

static void do_op(Stream *stream, Op *op) {
    size_t out = op->kind == KERNEL ? op->size * sizeof(float) : op->size;
    if (op->kind == RECORD) { op->event->done = 1; return; }
    if (op->kind == WAIT) { if (!op->event->done) run(op->event->stream, op->event); return; }
    Block *to = find(op->to, out, op->kind == COPY_OUT);
    Block *from = find(op->from, op->size, op->kind == COPY_IN);
    if (!to || !from) { fault("work on memory that is freed, too small or of the wrong kind"); return; }
    if (to->context != stream->context || from->context != stream->context)
        fault("work on memory of another context");
    if (op->kind == KERNEL) kernel((float *)op->to, (unsigned char *)op->from, op->size);
    else memcpy(op->to, op->from, op->size);
}

static void run(Stream *stream, const Event *until) {
    while (stream->ops.first && !(until && until->done)) {
        Op *op = stream->ops.first;
        stream->ops.first = op->next;
        if (!op->next) stream->ops.last = &stream->ops.first;
        do_op(stream, op);
        free(op);
    }
}

static int enqueue(Stream *stream, Op op) {
    if (fake_error) return fake_error;
    if (!stream || !stream->live) { fault("work on a stream that is gone"); return INVALID_HANDLE; }
    if (stream->context != current()) { fault("work in another context"); return INVALID_CONTEXT; }
    if (stream->capturing) { push(&stream->capturing->ops, op); return OK; }
    if (op.event && op.kind == RECORD) op.event->done = op.event->polls = 0, op.event->stream = stream;
    push(&stream->ops, op);
    return OK;
}

int cuMemcpyHtoDAsync_v2(char *to, char *from, size_t size, Stream *stream) {
    if (!find(from, size, 1)) fault("copy from memory that is not pinned");
    return enqueue(stream, (Op){COPY_IN, to, from, size, NULL, NULL});
}
int cuMemcpyDtoHAsync_v2(char *to, char *from, size_t size, Stream *stream) {
    if (!find(to, size, 1)) fault("copy to memory that is not pinned");
    return enqueue(stream, (Op){COPY_OUT, to, from, size, NULL, NULL});
}
/* The tests' network: bytes to their 255th part. */
int fake_infer(Stream *stream, char *from, char *to, size_t n) {
    return enqueue(stream, (Op){KERNEL, to, from, n, NULL, NULL});
}

int cuStreamCreate(Stream **stream, unsigned flags) {
    if (!current()) return INVALID_CONTEXT;
    if (flags != 1) fault("a stream that waits for the default one");
    *stream = calloc(1, sizeof **stream);
    (*stream)->live = 1, (*stream)->context = current();
    fake_live++;
    return OK;
}
int cuStreamDestroy_v2(Stream *stream) {
    if (!stream->live) { fault("stream destroyed twice"); return INVALID_HANDLE; }
    if (stream->ops.first) fault("stream destroyed with work in it");
    if (stream->context != current()) fault("stream destroyed in another context");
    stream->live = 0, fake_live--;
    return OK;
}
int cuStreamSynchronize(Stream *stream) {
    if (fake_hangs) for (;;) {}
    if (fake_error) return fake_error;
    if (stream->capturing) return CAPTURE_FORBIDS;
    run(stream, NULL);
    return OK;
}

/* Events ---------------------------------------------------------------------------------------*/

int cuEventCreate(Event **event, unsigned flags) {
    (void)flags;
    if (!current()) return INVALID_CONTEXT;
    *event = calloc(1, sizeof **event);
    (*event)->live = (*event)->done = 1, (*event)->context = current();
    fake_live++;
    return OK;
}
int cuEventDestroy_v2(Event *event) {
    if (!event->live) { fault("event destroyed twice"); return INVALID_HANDLE; }
    event->live = 0, fake_live--;
    return OK;
}
int cuEventRecord(Event *event, Stream *stream) {
    if (!event->live || event->context != current()) { fault("event of another context"); return INVALID_HANDLE; }
    return enqueue(stream, (Op){RECORD, NULL, NULL, 0, event, NULL});
}
int cuEventQuery(Event *event) {
    if (fake_error) return fake_error;
    if (!event->live) { fault("event asked that is gone"); return INVALID_HANDLE; }
    if (event->done) return OK;
    if (fake_hangs || ++event->polls < POLLS) return NOT_READY;
    run(event->stream, event);
    return OK;
}
int cuEventSynchronize(Event *event) {
    if (fake_hangs) for (;;) {}
    if (fake_error) return fake_error;
    if (!event->done) run(event->stream, event);
    return OK;
}
int cuStreamWaitEvent(Stream *stream, Event *event, unsigned flags) {
    (void)flags;
    return enqueue(stream, (Op){WAIT, NULL, NULL, 0, event, NULL});
}

/* Graphs ---------------------------------------------------------------------------------------*/

int cuStreamBeginCapture_v2(Stream *stream, int mode) {
    (void)mode;
    if (stream->ops.first) fault("capture on a stream with work in it");
    stream->capturing = calloc(1, sizeof(Graph));
    stream->capturing->live = 1, stream->capturing->context = current();
    fake_live++;
    return OK;
}
int cuStreamEndCapture(Stream *stream, Graph **graph) {
    *graph = stream->capturing;
    stream->capturing = NULL;
    if (!fake_refuses_capture) return OK;
    *graph = NULL, fake_live--;
    return CAPTURE_BROKEN;
}
int cuGraphInstantiateWithFlags(Graph **program, Graph *graph, unsigned long long flags) {
    (void)flags;
    *program = calloc(1, sizeof **program);
    (*program)->live = 1, (*program)->context = graph->context;
    for (Op *op = graph->ops.first; op; op = op->next) push(&(*program)->ops, *op);
    fake_live++;
    return OK;
}
int cuGraphLaunch(Graph *program, Stream *stream) {
    if (!program->live) { fault("graph launched that is gone"); return INVALID_HANDLE; }
    fake_graph_launches++;
    for (Op *op = program->ops.first; op; op = op->next) {
        int code = enqueue(stream, *op);
        if (code) return code;
    }
    return fake_error;
}
int cuGraphDestroy(Graph *graph) { graph->live = 0, fake_live--; return OK; }
int cuGraphExecDestroy(Graph *program) {
    if (!program->live) fault("graph destroyed twice");
    program->live = 0, fake_live--;
    return OK;
}

/* Devices and contexts -------------------------------------------------------------------------*/

int cuInit(unsigned flags) { (void)flags; return fake_devices ? OK : NO_DEVICE; }
int cuDriverGetVersion(int *version) { *version = 13000; return OK; }
int cuDeviceGetCount(int *count) { *count = fake_devices; return OK; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return OK; }
int cuDeviceGetName(char *name, int size, int device) {
    snprintf(name, (size_t)size, "Fake %c", 'A' + device);
    return OK;
}
int cuDeviceComputeCapability(int *major, int *minor, int device) {
    (void)device;
    *major = 8, *minor = 7;
    return OK;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    *value = attribute == 75 ? 8 : attribute == 76 ? 7 : 0; /* compute capability, major and minor */
    return OK;
}
int cuDevicePrimaryCtxRetain(Context **context, int device) {
    contexts[device].device = device, contexts[device].retained++;
    *context = &contexts[device];
    return OK;
}
int cuDevicePrimaryCtxRelease_v2(int device) {
    if (--contexts[device].retained < 0) fault("primary context released too often");
    return OK;
}
int cuCtxPushCurrent_v2(Context *context) {
    if (depth == DEEP) return INVALID_VALUE;
    stack[depth++] = context;
    return OK;
}
int cuCtxPopCurrent_v2(Context **context) {
    if (!depth) return INVALID_CONTEXT;
    Context *top = stack[--depth];
    if (context) *context = top;
    return OK;
}
int cuCtxGetCurrent(Context **context) { *context = current(); return OK; }
int cuCtxGetDevice(int *device) {
    if (!current()) return INVALID_CONTEXT;
    *device = current()->device;
    return OK;
}
int cuCtxDetach(Context *context) {
    (void)context;
    fault("primary context treated as an ordinary one");
    return INVALID_CONTEXT;
}
int cuGetErrorString(int code, const char **text) {
    *text = code == 719 ? "unspecified launch failure" : "an error of the fake driver";
    return OK;
}

/* cuda-python finds everything through this; versions are suffixes of the names. */
int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *found) {
    static const char *const suffixes[] = {"_v2", "WithFlags", ""};
    char full[128];
    (void)version, (void)flags;
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        snprintf(full, sizeof full, "%s%s", name, suffixes[i]);
        Dl_info self;
        dladdr((void *)cuInit, &self);
        void *library = dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD);
        *function = dlsym(library, full);
        dlclose(library);
        if (*function) break;
    }
    if (found) *found = *function ? 0 : 1;
    return *function ? OK : NOT_FOUND;
}
