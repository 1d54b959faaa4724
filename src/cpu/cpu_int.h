/* Inside the CPU backend: its state and the operations that have files of their own. */
#ifndef QRL_CPU_INT_H
#define QRL_CPU_INT_H

#include "backend/backend.h"
#include "base/mem.h"
#include "base/pool.h"
#include "cpu/kernels.h"
#include "cpu/pack.h"

typedef struct qrl_moe_scratch qrl_moe_scratch; /* moe.c */

/* Rows run past a piece of weights in one go, whole tiles: an expert's or a head's, and at most of others. */
enum { QRL_ROW_BLOCK = 64, QRL_MOST_ROWS = 256 };

/* What a thread has to itself while it computes a product. */
typedef struct qrl_product_scratch {
    qrl_panel panel;
    float out[2][QRL_MOST_ROWS][QRL_PANEL_ROWS];
} qrl_product_scratch;

struct qrl_backend {
    const qrl_kernels *kernels;
    qrl_isa isa;
    qrl_pool *pool;
    qrl_reserve reserved;
    bool measure;                 /* weights are not packed, memory is address space alone */
    qrl_ahead ahead;              /* for weights that few rows read */
    size_t row_block;             /* rows run past a piece of weights in one go: see fit_caches() */
    size_t piece_bytes;           /* weights that a thread keeps while rows run past them: likewise */
    size_t scratch_bytes;         /* of the three that follow */
    unsigned char *qacts;         /* tiles of quantized activations: [max_rows] rows of max_cols */
    float *facts;                 /* tiles of float activations, likewise */
    float *attend;                /* [threads][qrl_cpu_attend_floats]: nothing is kept between calls */
    qrl_product_scratch *product; /* [threads] */
    qrl_moe_scratch *moe;         /* NULL without experts */
};

struct qrl_weight {
    qrl_matrix m;          /* data NULL once nothing reads the file's rows any more */
    unsigned char *packed; /* groups of 16 rows (pack.h); NULL in the scalar set */
    size_t group_bytes, n_groups;
};

void qrl_cpu_linear(qrl_backend *b, const qrl_linear_op *op);
void qrl_cpu_ffn(qrl_backend *b, const qrl_ffn_op *op);
void qrl_cpu_kv_store(qrl_backend *b, const qrl_kv_store_op *op);
/* Of one row and head; scratch: [the larger of k_dim and v_dim]. */
void qrl_cpu_kv_store_head(const qrl_kernels *k, const qrl_kv_store_op *op, const qrl_span *span, size_t row,
                           size_t head, float *scratch);
void qrl_cpu_attention(qrl_backend *b, const qrl_attention_op *op);

void qrl_cpu_moe_route(qrl_backend *b, const qrl_moe_route_op *op);
void qrl_cpu_moe_ffn(qrl_backend *b, const qrl_moe_ffn_op *op);
void qrl_cpu_linear_each(qrl_backend *b, const qrl_linear_each_op *op);
void qrl_cpu_copy_rows(qrl_backend *b, const qrl_copy_op *op);
void qrl_cpu_gate_rows(qrl_backend *b, float *x, const float *gate, size_t n_rows, size_t n_cols);
/* out = act(gate) * up, or act(up) where gate is NULL. out may be either. */
void qrl_cpu_activate(const qrl_kernels *k, qrl_act act, const float *gate, const float *up, float *out, size_t n);
/* Scratch of moe_route, moe_ffn and linear_each for r; what there was is given up only when it succeeds. */
qrl_status qrl_cpu_moe_reserve(qrl_backend *b, const qrl_reserve *r, qrl_error *err);
void qrl_cpu_moe_release(qrl_backend *b);
size_t qrl_cpu_moe_bytes(const qrl_backend *b);

void qrl_cpu_conv1d(qrl_backend *b, const qrl_conv1d_op *op);
void qrl_cpu_ssm_scan(qrl_backend *b, const qrl_ssm_scan_op *op);
void qrl_cpu_delta(qrl_backend *b, const qrl_delta_op *op);

/* Runs fn over [0, n) in pieces of at least `grain`, on all threads. */
typedef void qrl_range_fn(void *context, size_t from, size_t to, int thread);
void qrl_cpu_range(qrl_backend *b, size_t n, size_t grain, qrl_range_fn *fn, void *context);

#endif
