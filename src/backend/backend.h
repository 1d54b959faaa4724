/* The seam between the model and a device: one table of coarse operations.
 *
 * forward/ calls these and nothing else of a device. Each operation has a descriptor, so that a new
 * feature is a new field with a neutral zero value. Activations are float rows in the backend's
 * memory; `rows` are tokens of one step, from any mix of sequences.
 *
 * Threading: one caller at a time for each backend. No operation allocates: `reserve` sizes all
 * scratch before. On the CPU the results obey docs/numerics.md: a row's result depends on nothing
 * but that row's inputs. */
#ifndef QRL_BACKEND_H
#define QRL_BACKEND_H

#include "base/cpu.h"
#include "base/status.h"
#include "quant/quant.h"

typedef struct qrl_backend qrl_backend;
typedef struct qrl_weight qrl_weight; /* a matrix in the form the backend computes with */

enum { QRL_PAGE = 32 }; /* positions a KV page */

typedef struct qrl_backend_params {
    int n_threads; /* 0: one for each usable core */
    qrl_isa isa;   /* from qrl_isa_parse */
    bool measure;  /* weights are not prepared and memory is not to be used: only sizes count */
} qrl_backend_params;

/* Which uses a weight is prepared for. */
typedef enum qrl_weight_use {
    QRL_USE_LINEAR = 1, /* y = W x */
    QRL_USE_EMBED = 2   /* rows looked up by token */
} qrl_weight_use;

/* A matrix as the file has it: n_rows rows (outputs) of n_cols values (inputs) of a type, row after
 * row. `data` must outlive the weight when QRL_USE_EMBED is set or the backend keeps raw rows (the
 * scalar CPU backend does; `borrows` says so). */
typedef struct qrl_matrix {
    qrl_type type;
    size_t n_rows, n_cols;
    const unsigned char *data;
} qrl_matrix;

/* Rows of one sequence at consecutive positions: row + i is at position pos + i. Operations take spans in the
 * order of their rows. */
typedef struct qrl_span {
    uint32_t row, n_rows;
    uint32_t pos;
    const uint32_t *pages; /* page table of the sequence: page of position p is pages[p / QRL_PAGE] */
    const uint32_t *ring;  /* the same for layers with a window: ring[p / QRL_PAGE % qrl_kv_layer.ring] */
    uint32_t slot;         /* of the sequence's recurrent state; see qrl_state */
    /* Where keep_rows is not 0, what the first so many rows leave (fewer than n_rows) goes to this slot too: the way
     * back from rows that are guesses. */
    uint32_t keep_rows, keep_slot;
} qrl_span;

/* The key-value cache of one layer: pages of QRL_PAGE positions. Page p, head h starts at
 * data + (p * n_head_kv + h) * (bytes of a head's keys + of its values) and holds, for F32 and F16,
 *     k[k_dim][QRL_PAGE];  transposed: the lanes of a vector are positions
 *     v[QRL_PAGE][v_dim];  the lanes are dimensions
 * Q4_0: a byte for dimensions 2i (low half) and 2i + 1, each plus 8, and behind a part's integers a half a block of 32
 * dimensions: its scale; of keys [blocks][QRL_PAGE], of values [QRL_PAGE][blocks]. Rows are turned by a Hadamard
 * matrix before. Q8_0: likewise turned, integers in fours, as dot products take them:
 *     k[ceil(k_dim / 4)][QRL_PAGE][4 dimensions] + 128, zeros behind the last
 *         and scales [blocks of 32 dimensions][QRL_PAGE]
 *     v[QRL_PAGE / 4][v_dim][4 positions], see qrl_kv_place
 *         and scales [blocks of qrl_kv_value_block][QRL_PAGE] */
typedef struct qrl_kv_layer {
    float *data;
    uint32_t n_head_kv, k_dim, v_dim;
    uint32_t ring; /* 0: page tables are qrl_span.pages; else pages of a sliding window, see qrl_span.ring */
    qrl_kv_type type_k, type_v;
} qrl_kv_layer;

/* Of this layout and the arithmetic over it; changes with them, so that no file has pages of another. */
enum { QRL_KV_LAYOUT = 3 };

/* Dimensions of a value of Q8_0 that share a scale: a part that the rotation mixes, but 32 at least. */
static inline size_t qrl_kv_value_block(size_t dim) {
    return dim % 128 == 0 ? 128 : dim % 64 == 0 ? 64 : 32;
}

/* Bytes of a head's keys in a page, and of its values; multiples of 32. dim is even for Q4_0. */
static inline size_t qrl_kv_key_bytes(qrl_kv_type type, size_t dim) {
    const size_t values = QRL_PAGE * dim, scales = (dim + 31) / 32 * QRL_PAGE * 2;
    return type == QRL_KV_F32    ? values * 4
           : type == QRL_KV_F16  ? values * 2
           : type == QRL_KV_Q8_0 ? QRL_PAGE * ((dim + 3) / 4 * 4) + scales
                                 : values / 2 + scales;
}
static inline size_t qrl_kv_value_bytes(qrl_kv_type type, size_t dim) {
    const size_t block = qrl_kv_value_block(dim);
    return type == QRL_KV_Q8_0 ? QRL_PAGE * dim + (dim + block - 1) / block * QRL_PAGE * 2
                               : qrl_kv_key_bytes(type, dim);
}

/* Where values of Q8_0 of a position of a page stand: in which four, and the place there. Sums over the positions
 * that are equal modulo 8 are bounded (docs/numerics.md), and these meet in places 2i and 2i + 1 of fours
 * j and j + 4. */
static inline size_t qrl_kv_four(size_t at) {
    return at % 4 + at / 16 * 4;
}
static inline size_t qrl_kv_place(size_t at) {
    return at / 8 % 2 + at / 4 % 2 * 2;
}
static inline bool qrl_kv_rotates(qrl_kv_type type) {
    return type == QRL_KV_Q8_0 || type == QRL_KV_Q4_0;
}

typedef enum qrl_norm_kind { QRL_NORM_RMS, QRL_NORM_LAYER } qrl_norm_kind;

/* out = norm(x) * weight (+ bias); groups > 1 norms each of `groups` equal parts of a row by itself,
 * weight then having n_cols / groups entries (head norms), or with `each` n_cols, the group's own part. */
typedef struct qrl_norm_op {
    qrl_norm_kind kind;
    const float *x;      /* [n_rows][n_cols] */
    const float *weight; /* [n_cols / groups] or NULL */
    const float *bias;   /* likewise */
    float *out;          /* [n_rows][n_cols], may be x */
    size_t n_rows, n_cols, groups;
    bool each;
    float eps;
} qrl_norm_op;

typedef enum qrl_act {
    QRL_ACT_SILU,
    QRL_ACT_GELU,
    QRL_ACT_RELU,
    QRL_ACT_RELU_SQUARED,
    QRL_ACT_SWIGLU_CLAMPED, /* gpt-oss: g sigmoid(1.702 g) (u + 1), g at most 7, u from -7 to 7; wants a gate */
    QRL_ACT_SIGMOID,
    QRL_ACT_NONE, /* gate * up */
    QRL_ACT_COUNT
} qrl_act;

/* out[i] = weight[i] x (+ bias[i]), for up to three weights that share their input */
typedef struct qrl_linear_op {
    int n;
    const qrl_weight *weight[3]; /* n_rows[i] x n_cols */
    const float *bias[3];        /* [n_rows[i]] or NULL */
    float *out[3];               /* [n_rows][weight rows] */
    const float *x;              /* [n_rows][n_cols] */
    size_t n_rows;
    size_t ld_x, ld_out[3]; /* floats from row to row; 0: as wide as the row */
    bool fine;              /* rounds activations to 16 bits instead of 8, for twice the work (docs/numerics.md) */
} qrl_linear_op;

/* out = down(act(gate x) * up x), or down(act(up x)) where there is no gate: linear and glu in one, with the same
 * bits, whose results between are seen by nobody. */
typedef struct qrl_ffn_op {
    qrl_act act;
    const qrl_weight *gate;              /* n_ff x n_cols, or NULL */
    const qrl_weight *up, *down;         /* n_ff x n_cols, n_out x n_ff */
    const float *gate_b, *up_b, *down_b; /* [n_ff], [n_ff], [n_out]; or NULL */
    const float *x;                      /* [n_rows][n_cols] */
    float *mid;                          /* scratch [n_rows][n_ff], 64-byte aligned */
    float *out;                          /* [n_rows][n_out] */
    size_t n_rows;
} qrl_ffn_op;

typedef enum qrl_rope_kind {
    QRL_ROPE_PAIR, /* dimensions 2i and 2i + 1 turn together */
    QRL_ROPE_HALF  /* dimensions i and i + n_rot / 2 */
} qrl_rope_kind;

/* Turns the first n_rot dimensions of every head, in place. */
typedef struct qrl_rope_op {
    qrl_rope_kind kind;
    float *x;            /* [n_rows][n_head][head_dim] */
    const float *cossin; /* [n_rows][n_rot / 2][2]: cosine, sine (magnitude scaling included) */
    size_t n_rows, n_head, head_dim, n_rot;
} qrl_rope_op;

typedef struct qrl_kv_store_op {
    qrl_kv_layer kv;
    const float *k; /* [rows][n_head_kv][k_dim] */
    const float *v; /* [rows][n_head_kv][v_dim] */
    const qrl_span *spans;
    size_t n_spans;
} qrl_kv_store_op;

/* Attention of each row over positions 0 .. its own, or fewer by the window. Pages of which no row sees a
 * position are not read. The score of key j for query i is f((q . k) scale)
 * - slope |j - i|. */
typedef struct qrl_attention_op {
    qrl_kv_layer kv;
    const float *k; /* [rows][n_head_kv][k_dim] stored before, with v, as kv_store does; NULL: they have been */
    const float *v; /* [rows][n_head_kv][v_dim] */
    const float *q; /* [rows][n_head][k_dim] */
    float *out;     /* [rows][n_head][v_dim] */
    const qrl_span *spans;
    size_t n_spans;
    uint32_t n_head;
    float scale;         /* of q . k */
    float softcap;       /* f(s) = softcap tanh(s / softcap); 0: f(s) = s */
    uint32_t window;     /* positions that a row sees at most, its own included; 0: all */
    bool chunked;        /* those of its own chunk: from pos / window * window on */
    bool bidirectional;  /* every row of a span sees all rows of the span */
    const float *sinks;  /* [n_head] a score more, whose value is zero; or NULL */
    const float *slopes; /* [n_head] of ALiBi; or NULL */
} qrl_attention_op;

/* out = act(gate) * up, or act(up) where gate is NULL */
typedef struct qrl_glu_op {
    qrl_act act;
    const float *gate, *up; /* [n] */
    float *out;             /* [n], may be either */
    size_t n;
} qrl_glu_op;

typedef enum qrl_map_kind {
    QRL_MAP_SCALE,   /* x = a x */
    QRL_MAP_SOFTCAP, /* x = a tanh(x / a) */
    QRL_MAP_CLAMP    /* x = -a where below, a where above */
} qrl_map_kind;

typedef struct qrl_map_op {
    qrl_map_kind kind;
    float *x; /* [n] */
    size_t n;
    float a;
} qrl_map_op;

/* ---- mixtures of experts and latent attention ---- */

typedef enum qrl_route_kind {
    QRL_ROUTE_SOFTMAX,       /* weights: softmax over all experts */
    QRL_ROUTE_SIGMOID,       /* weights: sigmoid of each logit */
    QRL_ROUTE_SOFTMAX_CHOSEN /* weights: softmax over the chosen experts' logits */
} qrl_route_kind;

/* Chooses n_used experts for each row, best first (the lower id among equals), and their weights. The
 * choice is by logit; where there is a bias or are groups, by weight + bias. With n_group > 1 the
 * experts stand in n_group groups of equal size, the n_group_used groups whose two best experts have
 * the greatest sum are kept, and the choice is among their experts. */
typedef struct qrl_moe_route_op {
    qrl_route_kind kind;
    const float *logits; /* [n_rows][n_expert] */
    const float *bias;   /* [n_expert], added for choosing only; or NULL */
    uint32_t *expert;    /* [n_rows][n_used] */
    float *weight;       /* [n_rows][n_used] */
    uint64_t *counts;    /* [n_expert] grow by the number of rows that chose the expert; or NULL */
    size_t n_rows, n_expert, n_used;
    size_t n_group, n_group_used; /* 0 or 1: no groups */
    bool normalize;               /* divide by the sum of the chosen weights (at least 2^-14) */
    float scale;                  /* of the weights at last; 0: none */
} qrl_moe_route_op;

/* out[r] = sum over the rank j of weight[r][j] * expert[r][j](x[r]), in the order of the ranks; an expert
 * is down(act(gate x) * up x), or down(act(up x)) where there is no gate. Rows are grouped by expert, so
 * that each expert's weights are read once; no result depends on the grouping. */
typedef struct qrl_moe_ffn_op {
    qrl_act act;
    const float *x;                   /* [n_rows][n_embd] */
    float *out;                       /* [n_rows][n_out], must not be x */
    const uint32_t *expert;           /* [n_rows][n_used] */
    const float *weight;              /* [n_rows][n_used] */
    qrl_weight *const *gate;          /* [n_expert] of n_ff x n_embd; NULL: none */
    qrl_weight *const *up;            /* [n_expert] of n_ff x n_embd */
    qrl_weight *const *down;          /* [n_expert] of n_out x n_ff */
    const float *gate_bias, *up_bias; /* [n_expert][n_ff] or NULL */
    const float *down_bias;           /* [n_expert][n_out] or NULL */
    size_t n_rows, n_expert, n_used;
    bool weigh_input; /* weights multiply x before the expert instead of its result */
} qrl_moe_ffn_op;

/* out[r][i] = weight[i] x[r][i]: a matrix of its own for each of n heads. */
typedef struct qrl_linear_each_op {
    qrl_weight *const *weight; /* [n], all of one shape and type */
    size_t n, n_rows;
    const float *x;
    float *out;
    size_t x_row, x_step;     /* floats from row to row, and from head to head */
    size_t out_row, out_step; /* likewise */
} qrl_linear_each_op;

/* out[r][c] = x[r][c] for c < n_cols, the rows lying x_row and out_row floats apart */
typedef struct qrl_copy_op {
    const float *x;
    float *out;
    size_t n_rows, n_cols, x_row, out_row;
} qrl_copy_op;

/* ---- recurrent layers ---- */

/* What one recurrent operation of a layer carries from token to token: `floats` values a slot, one slot
 * after the other. A span at position 0 begins from zeros whatever the slot holds; any other goes on from
 * what the span before it left. */
typedef struct qrl_state {
    float *data; /* [slots][floats] */
    size_t floats;
} qrl_state;

/* Floats of a slot. */
#define QRL_CONV1D_STATE(d_conv, n_cols)          (((size_t)(d_conv)-1) * (n_cols))
#define QRL_SCAN_STATE(n_head, head_dim, d_state) ((size_t)(n_head) * (head_dim) * (d_state))

/* Causal convolution of each column by itself, over a row and the d_conv - 1 before it:
 * out[r][i] = act(bias[i] + sum over k of weight[k][i] x[r - (d_conv - 1) + k][i]), k ascending. */
typedef struct qrl_conv1d_op {
    qrl_state state;     /* [d_conv - 1][n_cols]: the last rows, oldest first */
    const float *x;      /* [rows][n_cols] */
    const float *weight; /* [d_conv][n_cols] */
    const float *bias;   /* [n_cols] or NULL */
    float *out;          /* [rows][n_cols], must not be x */
    const qrl_span *spans;
    size_t n_spans, n_cols;
    uint32_t d_conv; /* 2 to QRL_MAX_CONV */
    bool silu;       /* act; else none */
} qrl_conv1d_op;
enum { QRL_MAX_CONV = 16 };

/* The selective state space of Mamba (arXiv 2312.00752) and Mamba-2 (arXiv 2405.21060), token by token.
 * With dt' = softplus(dt + dt_bias) of the head, for each dimension i of a head and each state s:
 *     state[s] = state[s] e^(dt' a) + b[s] (dt' x[i])
 *     out[i]   = (sum over s of c[s] state[s] + d x[i]) silu(gate[i])
 * Mamba-2: one `a` a head. Mamba (own_decay): head_dim is 1 and each state of a head has its own. */
typedef struct qrl_ssm_scan_op {
    qrl_state state;      /* QRL_SCAN_STATE values: heads, tiles of 16 dimensions, [d_state][dimensions of the tile] */
    const float *x;       /* [rows][n_head][head_dim], rows ld_x floats apart */
    const float *dt;      /* [rows][n_head] */
    const float *dt_bias; /* [n_head] or NULL */
    const float *a;       /* [n_head], or with own_decay [d_state][n_head]; negative */
    const float *b, *c;   /* [rows][n_group][d_state], rows ld_bc floats apart; a group serves n_head / n_group heads */
    const float *d;       /* [n_head] or NULL */
    const float *gate;    /* [rows][n_head][head_dim] or NULL */
    float *out;           /* [rows][n_head][head_dim], may be gate */
    const qrl_span *spans;
    size_t n_spans, n_head, head_dim, n_group, d_state, ld_x, ld_bc;
    bool own_decay;
} qrl_ssm_scan_op;
enum { QRL_MAX_SCAN_STATE = 256 }; /* of d_state */

/* The gated delta rule (arXiv 2412.06464), token by token. For each of n_head heads, with q and k of its
 * group divided by their lengths, g = e^(a softplus(alpha + dt_bias)) and the matrix state S [k_dim][v_dim]:
 *     S = g S;  S = S + k (v - k S) sigmoid(beta);  out = q S / sqrt(k_dim) */
typedef struct qrl_delta_op {
    qrl_state state;           /* QRL_SCAN_STATE(n_head, v_dim, k_dim) */
    const float *q, *k;        /* [rows][n_group][k_dim]; a group serves n_head / n_group heads */
    const float *v;            /* [rows][n_head][v_dim]; rows of all three are ld floats apart */
    const float *beta, *alpha; /* of head h of group g: [row * ld_ba + g * step_ba + h % (n_head / n_group)] */
    const float *dt_bias;      /* [n_head] */
    const float *a;            /* [n_head]; negative */
    float *out;                /* [rows][n_head][v_dim] */
    const qrl_span *spans;
    size_t n_spans, n_head, n_group, k_dim, v_dim, ld, ld_ba, step_ba;
    float eps; /* lengths below it count as it */
} qrl_delta_op;
enum { QRL_MAX_DELTA_DIM = 256 }; /* of k_dim */

/* The most a step will ask for; all scratch is sized from it. */
typedef struct qrl_reserve {
    size_t max_rows;     /* tokens a step */
    size_t max_cols;     /* the widest input of a linear operation */
    size_t fine_cols;    /* of a fine one; 0: there is none */
    size_t max_head_dim; /* the larger of k_dim and v_dim */
    /* 0 without experts: experts of a layer, those that a row uses, and the greatest n_embd or n_out, n_ff */
    size_t max_experts, max_experts_used, max_expert_cols, max_expert_ff;
    size_t max_each_cols; /* inputs of linear_each; 0 without */
} qrl_reserve;

typedef struct qrl_backend_ops {
    const char *name; /* "cpu" */
    qrl_status (*create)(const qrl_backend_params *params, qrl_backend **out, qrl_error *err);
    void (*destroy)(qrl_backend *b);
    int (*threads)(const qrl_backend *b);
    qrl_isa (*isa)(const qrl_backend *b);

    /* Device memory, zeroed, 64-byte aligned. */
    qrl_status (*alloc)(qrl_backend *b, size_t bytes, const char *what, void **out, qrl_error *err);
    void (*release)(qrl_backend *b, void *p);
    void (*upload)(qrl_backend *b, void *to, const void *from, size_t bytes);
    void (*download)(qrl_backend *b, void *to, const void *from, size_t bytes);
    qrl_status (*reserve)(qrl_backend *b, const qrl_reserve *r, qrl_error *err);
    size_t (*reserved_bytes)(const qrl_backend *b); /* what `reserve` has taken so far */

    /* Prepares a matrix (packs it, on all threads). */
    qrl_status (*weight_create)(qrl_backend *b, const qrl_matrix *m, unsigned use, qrl_weight **out, qrl_error *err);
    void (*weight_destroy)(qrl_backend *b, qrl_weight *w);
    size_t (*weight_bytes)(const qrl_weight *w); /* of device memory, beside the file's */
    bool (*weight_borrows)(const qrl_weight *w); /* reads the file's bytes after creation */

    /* out[n_tokens][n_cols] = rows of an embedding, decoded. Ids have been checked. */
    void (*embed)(qrl_backend *b, const qrl_weight *w, const int32_t *tokens, size_t n_tokens, float *out);
    void (*norm)(qrl_backend *b, const qrl_norm_op *op);
    void (*linear)(qrl_backend *b, const qrl_linear_op *op);
    void (*ffn)(qrl_backend *b, const qrl_ffn_op *op);
    void (*rope)(qrl_backend *b, const qrl_rope_op *op);
    void (*kv_store)(qrl_backend *b, const qrl_kv_store_op *op);
    void (*attention)(qrl_backend *b, const qrl_attention_op *op);
    void (*glu)(qrl_backend *b, const qrl_glu_op *op);
    void (*map)(qrl_backend *b, const qrl_map_op *op);
    /* x[n] += y[n] */
    void (*add)(qrl_backend *b, float *x, const float *y, size_t n);
    /* x[r][c] += y[c] */
    void (*add_row)(qrl_backend *b, float *x, const float *y, size_t n_rows, size_t n_cols);
    /* x[r][c] *= s[r] */
    void (*scale_rows)(qrl_backend *b, float *x, const float *s, size_t n_rows, size_t n_cols);
    void (*moe_route)(qrl_backend *b, const qrl_moe_route_op *op);
    void (*moe_ffn)(qrl_backend *b, const qrl_moe_ffn_op *op);
    void (*linear_each)(qrl_backend *b, const qrl_linear_each_op *op);
    void (*copy)(qrl_backend *b, const qrl_copy_op *op);
    /* x[r][c] *= sigmoid(gate[r]) */
    void (*gate_rows)(qrl_backend *b, float *x, const float *gate, size_t n_rows, size_t n_cols);
    void (*conv1d)(qrl_backend *b, const qrl_conv1d_op *op);
    void (*ssm_scan)(qrl_backend *b, const qrl_ssm_scan_op *op);
    void (*delta)(qrl_backend *b, const qrl_delta_op *op);
    /* out[i] = x[rows[i]], rows of n_cols: picks the rows that want logits */
    void (*gather)(qrl_backend *b, const float *x, const uint32_t *rows, size_t n, size_t n_cols, float *out);
} qrl_backend_ops;

/* backend/registry.c: the compiled-in backends. NULL when the name is unknown. */
const qrl_backend_ops *qrl_backend_find(const char *name);

/* The limits of this machine (qrl_limits of quarrel.h), measured with the backend's threads.
 * Takes about a second; QRL_ERR_MEMORY when the test buffer cannot be had.
 * macs: [QRL_TYPE_COUNT] multiply-adds with weights of each type, for int8_macs of that mixture; NULL: of bytes. */
qrl_status qrl_cpu_measure_limits(const qrl_backend_params *params, const uint64_t *macs, qrl_limits *out,
                                  qrl_error *err);

#endif
