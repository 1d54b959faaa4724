/* Sizes that cannot overflow unseen, aligned memory, a growing byte buffer and a fixed arena.
 * Nothing here is shared between threads. */
#ifndef QRL_BASE_MEM_H
#define QRL_BASE_MEM_H

#include "base/status.h"

/* *out = a * b (a + b); false, with *out untouched, when that does not fit. */
static inline bool qrl_size_mul(size_t a, size_t b, size_t *out) {
    size_t product; /* the builtin stores the wrapped result */
    if (__builtin_mul_overflow(a, b, &product))
        return false;
    *out = product;
    return true;
}
static inline bool qrl_size_add(size_t a, size_t b, size_t *out) {
    size_t sum;
    if (__builtin_add_overflow(a, b, &sum))
        return false;
    *out = sum;
    return true;
}
/* The next multiple of `align`, a power of two. The caller has made sure that it fits. */
static inline size_t qrl_align_up(size_t n, size_t align) {
    return (n + align - 1) & ~(align - 1);
}

/* calloc that fills err when it fails (count * size that does not fit fails too); for qrl_new_array. */
void *qrl_calloc(size_t count, size_t size, const char *what, qrl_error *err);
/* count zeroed elements; *out (a pointer variable) is NULL on failure, never on success, and belongs to
 * free(). what names the use. */
#define qrl_new_array(out, count, what, err)                                                                           \
    (*(out) = qrl_calloc((count), sizeof **(out), (what), (err)), *(out) ? QRL_OK : QRL_ERR_MEMORY)

/* 64-byte aligned, zeroed memory for vectors; release with qrl_free_aligned. Requests of 2 MiB and more are
 * mapped on their own, in huge pages where the system has them: what is untouched costs nothing. NULL when there is
 * none. */
void *qrl_alloc_aligned(size_t bytes);
void qrl_free_aligned(void *p);
/* Zeroed address space that costs nothing while it is not touched, even more of it than there is memory: for
 * measuring. NULL when there is none. */
void *qrl_reserve_space(size_t bytes);
void qrl_release_space(void *p); /* NULL is fine */

/* A byte buffer that grows. A failed growth sets `failed` and is reported once, by qrl_buf_status,
 * so that a run of appends needs one check. */
typedef struct qrl_buf {
    char *data; /* [size], and a zero byte after it once anything was appended */
    size_t size;
    size_t capacity;
    bool failed;
} qrl_buf;

void qrl_buf_append(qrl_buf *b, const void *bytes, size_t n);
void qrl_buf_str(qrl_buf *b, const char *s);
void qrl_buf_char(qrl_buf *b, char c);
void qrl_buf_printf(qrl_buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
qrl_status qrl_buf_status(const qrl_buf *b, qrl_error *err);
void qrl_buf_free(qrl_buf *b); /* back to an empty buffer */

/* One block handed out piece by piece, reset as a whole; it never grows, so that a step that stays
 * within its plan allocates nothing. */
typedef struct qrl_arena {
    char *base;
    size_t capacity; /* bytes */
    size_t used;
    size_t peak;
} qrl_arena;

qrl_status qrl_arena_init(qrl_arena *a, size_t capacity, const char *what, qrl_error *err);
void qrl_arena_free(qrl_arena *a);
/* 64-byte aligned, contents undefined; NULL when the plan was too small. */
void *qrl_arena_take(qrl_arena *a, size_t bytes);
static inline void qrl_arena_reset(qrl_arena *a) {
    a->used = 0;
}

#endif
