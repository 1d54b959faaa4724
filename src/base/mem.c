#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGNMENT = 64, HUGE_PAGE = 2 << 20, SMALL_PAGE = 4096 };

void *qrl_calloc(size_t count, size_t size, const char *what, qrl_error *err) {
    size_t bytes;
    if (!qrl_size_mul(count, size, &bytes))
        bytes = SIZE_MAX;
    void *p = bytes < SIZE_MAX ? calloc(1, bytes ? bytes : 1) : NULL;
    if (!p)
        qrl_fail_memory(err, what, bytes);
    return p;
}

/* Stands just before memory that is given out. */
struct origin {
    void *start;
    size_t mapped; /* bytes of a mapping of its own; 0: from malloc */
};

static void *put_origin(char *p, struct origin origin) {
    memcpy(p - sizeof origin, &origin, sizeof origin);
    return p;
}

/* Begins at a huge page, which the kernel is asked for: weights, caches and rows of activations are walked with strides
 * that small pages answer with a miss of the TLB for each line. */
static void *map_aligned(size_t bytes) {
    size_t total;
    if (!qrl_size_add(bytes, HUGE_PAGE + SMALL_PAGE, &total))
        return NULL;
    char *raw = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw == MAP_FAILED)
        return NULL;
    char *p = (char *)qrl_align_up((size_t)raw + SMALL_PAGE, HUGE_PAGE);
#ifdef MADV_HUGEPAGE
    madvise(p, bytes, MADV_HUGEPAGE); /* a wish: where there are none, small ones serve */
#endif
    return put_origin(p, (struct origin){raw, total});
}

void *qrl_alloc_aligned(size_t bytes) {
    if (bytes >= HUGE_PAGE)
        return map_aligned(bytes);
    char *raw = calloc(1, bytes + sizeof(struct origin) + ALIGNMENT);
    if (!raw)
        return NULL;
    char *p = (char *)qrl_align_up((size_t)raw + sizeof(struct origin), ALIGNMENT);
    return put_origin(p, (struct origin){raw, 0});
}

void qrl_free_aligned(void *p) {
    if (!p)
        return;
    struct origin origin;
    memcpy(&origin, (char *)p - sizeof origin, sizeof origin);
    if (origin.mapped)
        munmap(origin.start, origin.mapped);
    else
        free(origin.start);
}

void *qrl_reserve_space(size_t bytes) {
    size_t total; /* its size stands before what is given out */
    if (!qrl_size_add(bytes, ALIGNMENT, &total))
        return NULL;
    char *p = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    memcpy(p, &total, sizeof total);
    return p + ALIGNMENT;
}

void qrl_release_space(void *p) {
    size_t total;
    if (!p)
        return;
    char *from = (char *)p - ALIGNMENT;
    memcpy(&total, from, sizeof total);
    munmap(from, total);
}

/* Room for n more bytes and a closing zero. */
static bool buf_reserve(qrl_buf *b, size_t n) {
    size_t need;
    if (b->failed || !qrl_size_add(b->size, n, &need) || !qrl_size_add(need, 1, &need)) {
        b->failed = true;
        return false;
    }
    if (need <= b->capacity)
        return true;
    size_t capacity = b->capacity ? b->capacity : 64;
    while (capacity < need)
        capacity = capacity > SIZE_MAX / 2 ? need : capacity * 2;
    char *data = realloc(b->data, capacity);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->capacity = capacity;
    return true;
}

void qrl_buf_append(qrl_buf *b, const void *bytes, size_t n) {
    if (!buf_reserve(b, n))
        return;
    if (n)
        memcpy(b->data + b->size, bytes, n);
    b->size += n;
    b->data[b->size] = 0;
}

void qrl_buf_str(qrl_buf *b, const char *s) {
    qrl_buf_append(b, s, strlen(s));
}

void qrl_buf_char(qrl_buf *b, char c) {
    qrl_buf_append(b, &c, 1);
}

void qrl_buf_printf(qrl_buf *b, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, format, args);
    if (n < 0)
        b->failed = true;
    else if (buf_reserve(b, (size_t)n)) {
        vsnprintf(b->data + b->size, (size_t)n + 1, format, again);
        b->size += (size_t)n;
    }
    va_end(again);
    va_end(args);
}

qrl_status qrl_buf_status(const qrl_buf *b, qrl_error *err) {
    return b->failed ? qrl_fail_memory(err, "a text buffer", b->size) : QRL_OK;
}

void qrl_buf_free(qrl_buf *b) {
    free(b->data);
    *b = (qrl_buf){0};
}

qrl_status qrl_arena_init(qrl_arena *a, size_t capacity, const char *what, qrl_error *err) {
    *a = (qrl_arena){0};
    a->base = qrl_alloc_aligned(capacity);
    if (!a->base)
        return qrl_fail_memory(err, what, capacity);
    a->capacity = capacity;
    return QRL_OK;
}

void qrl_arena_free(qrl_arena *a) {
    qrl_free_aligned(a->base);
    *a = (qrl_arena){0};
}

void *qrl_arena_take(qrl_arena *a, size_t bytes) {
    if (bytes > a->capacity - a->used)
        return NULL;
    void *p = a->base + a->used;
    const size_t step = qrl_align_up(bytes, ALIGNMENT);
    a->used = step > a->capacity - a->used ? a->capacity : a->used + step;
    if (a->used > a->peak)
        a->peak = a->used;
    return p;
}
