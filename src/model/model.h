/* A model made ready to compute with: what its file says (hyperparameters), which parts its
 * architecture has (a row of arch_table.c), and its weights bound to named fields. After loading no
 * string is looked at.
 *
 * A model owns its file, its tokenizer, its backend and its weights. Reading it is thread-safe; the
 * backend takes one caller at a time. */
#ifndef QRL_MODEL_H
#define QRL_MODEL_H

#include "backend/backend.h"
#include "base/mem.h"
#include "gguf/gguf.h"
#include "tokenizer/tokenizer.h"

#include <pthread.h>

typedef struct qrl_arch qrl_arch;         /* model_int.h */
typedef struct qrl_arch_set qrl_arch_set; /* arch_file.c */

typedef enum qrl_rope_scaling { QRL_SCALE_NONE, QRL_SCALE_LINEAR, QRL_SCALE_YARN } qrl_rope_scaling;

typedef struct qrl_rope_params {
    qrl_rope_kind kind;
    uint32_t n_rot; /* dimensions of a head that turn; even */
    double base;    /* frequency i is base^(-2 i / n_rot) */
    qrl_rope_scaling scaling;
    double factor;               /* how many times longer than trained; 1 without scaling */
    double attn_factor;          /* multiplies cosine and sine */
    uint32_t n_ctx_orig;         /* YaRN: positions of the training */
    double ext_factor;           /* YaRN: share of extrapolation */
    double beta_fast, beta_slow; /* YaRN: turns over n_ctx_orig between which the two are mixed */
    double log_multiplier;       /* YaRN: mscale_all_dim; 0: none */
} qrl_rope_params;

/* What a layer is. A layer may have attention and a recurrence side by side, or neither. */
typedef enum qrl_ffn_kind { QRL_FFN_NONE, QRL_FFN_DENSE, QRL_FFN_MOE } qrl_ffn_kind;

typedef struct qrl_layer_params {
    uint32_t n_head, n_head_kv, n_ff; /* queries share keys in groups of n_head / n_head_kv */
    uint32_t window;                  /* positions that a token sees, its own included; 0: all */
    int rope;                         /* index into qrl_hparams.ropes; -1: none */
    bool attention, recurrent;
    bool temperature;   /* queries are scaled by the position */
    bool shared_expert; /* beside the chosen ones */
    bool low_rank_q;    /* latent attention: queries go through q_lora_rank dimensions */
    qrl_ffn_kind ffn;
} qrl_layer_params;

typedef struct qrl_moe_params {
    uint32_t n_expert, n_used; /* 0: no experts */
    uint32_t n_ff;             /* of an expert */
    uint32_t n_ff_shared;      /* of the shared expert; 0: none */
    uint32_t n_group, n_group_used;
    qrl_route_kind route;
    bool normalize;   /* the chosen experts' weights are divided by their sum */
    bool weigh_input; /* weights multiply what goes into an expert */
    float weights_scale;
} qrl_moe_params;

typedef enum qrl_recurrent_kind {
    QRL_RECURRENT_NONE,
    QRL_RECURRENT_MAMBA,
    QRL_RECURRENT_MAMBA2,
    QRL_RECURRENT_SHORTCONV,
    QRL_RECURRENT_DELTA
} qrl_recurrent_kind;

typedef struct qrl_ssm_params {
    qrl_recurrent_kind kind;
    uint32_t d_conv;  /* rows that the convolution sees */
    uint32_t d_inner; /* columns of the gate and of the result */
    uint32_t d_state; /* of Mamba; k_dim of the delta rule */
    uint32_t dt_rank; /* Mamba: columns that the steps come from; else heads */
    uint32_t n_group; /* of heads that share b and c, or queries and keys */
    uint32_t n_cols;  /* of the convolution */
    uint32_t n_step;  /* values beside: steps, betas and alphas, or the short convolution's gate */
    bool norm_steps;  /* Mamba: steps, b and c are normed, with weights where there are some */
} qrl_ssm_params;

/* Norms of queries and keys: all heads by one weight; the whole row; each head by its own weight. */
typedef enum qrl_qk_norm { QRL_QK_NORM_HEAD, QRL_QK_NORM_ROW, QRL_QK_NORM_EACH } qrl_qk_norm;

enum { QRL_ROPES = 2 }; /* angles of the layers without and with a window */

typedef struct qrl_hparams {
    uint32_t n_vocab, n_ctx, n_embd, n_layer;
    uint32_t n_head, n_head_kv, n_ff; /* the greatest of any layer */
    uint32_t k_dim, v_dim;            /* of a head */
    uint32_t n_token_types;           /* 0: none */
    uint32_t n_out;                   /* values a row of output: n_vocab, or n_embd of an encoder */
    qrl_layer_params *layers;         /* [n_layer] */
    qrl_norm_kind norm;
    float norm_eps;
    qrl_act act;
    bool parallel;    /* attention and feed-forward read the same input */
    bool encoder;     /* gives hidden states, no logits */
    uint32_t pooling; /* qrl_pooling */
    bool causal;
    qrl_rope_params ropes[QRL_ROPES];
    bool rope_short; /* of long and short factors, the short: the model's context is no longer than trained */
    bool window_chunked;
    bool attn_gate; /* a head's query is followed by a gate, whose sigmoid multiplies the head's result */
    qrl_qk_norm qk_norm;
    bool qk_norm_late, qk_norm_plain; /* after rope; without weights, on layers with rope */
    float clamp_qkv;                  /* 0: none, as everywhere below where a scale would be 1 */
    float attn_scale, attn_softcap, alibi;
    float temperature_scale, temperature_offset; /* queries times 1 + scale * ln(1 + floor((pos + offset) / length)) */
    uint32_t temperature_length;
    float embd_scale, residual_scale, logit_scale, logit_softcap;
    qrl_moe_params moe;
    qrl_ssm_params ssm;
    uint32_t q_lora_rank, kv_lora_rank, k_dim_mla, v_dim_mla; /* latent attention */
} qrl_hparams;

/* One layer. A vector or matrix is NULL where the architecture or the file has none. Norms have a weight
 * and, behind it, a bias. What stands where is in docs/architecture.md. */
typedef struct qrl_layer {
    const float *attn_norm, *attn_norm_b;                   /* [n_embd] before attention and recurrence */
    const float *attn_post_norm, *attn_post_norm_b;         /* [n_embd] of their result, before it is added */
    const float *attn_after_norm, *attn_after_norm_b;       /* [n_embd] of the sum */
    const float *attn_after_norm_2, *attn_after_norm_2_b;   /* [n_embd] of that plus the layer's input */
    qrl_weight *attn_q;                                     /* n_head * k_dim x n_embd */
    qrl_weight *attn_k;                                     /* n_head_kv * k_dim x n_embd */
    qrl_weight *attn_v;                                     /* n_head_kv * v_dim x n_embd */
    qrl_weight *attn_output;                                /* n_embd x n_head * v_dim */
    const float *attn_q_b, *attn_k_b, *attn_v_b, *attn_o_b; /* [rows of the matrix] */
    const float *q_norm, *q_norm_b, *k_norm, *k_norm_b;     /* [head], [row] or [heads][head] */
    const float *attn_sinks;                                /* [n_head] */
    const float *ffn_norm, *ffn_norm_b;                     /* [n_embd] */
    const float *ffn_post_norm, *ffn_post_norm_b;           /* [n_embd] of the result, before it is added */
    const float *ffn_after_norm, *ffn_after_norm_b;         /* [n_embd] of the sum */
    qrl_weight *ffn_gate, *ffn_up;                          /* n_ff x n_embd; gate NULL: act(up) */
    qrl_weight *ffn_down;                                   /* n_embd x n_ff */
    const float *ffn_gate_b, *ffn_up_b, *ffn_down_b;        /* [rows of the matrix] */
    qrl_weight *ffn_gate_inp;                               /* n_expert x n_embd: the router */
    const float *ffn_gate_inp_b, *exp_probs_b;              /* [n_expert] of the logits; of the choice alone */
    qrl_weight **ffn_gate_exps, **ffn_up_exps;              /* [n_expert] of n_ff_expert x n_embd; gate may be NULL */
    qrl_weight **ffn_down_exps;                             /* [n_expert] of n_embd x n_ff_expert */
    const float *ffn_gate_exps_b, *ffn_up_exps_b;           /* [n_expert][n_ff_expert] */
    const float *ffn_down_exps_b;                           /* [n_expert][n_embd] */
    qrl_weight *ffn_gate_shexp, *ffn_up_shexp;              /* n_ff_shared x n_embd: the shared expert */
    qrl_weight *ffn_down_shexp;                             /* n_embd x n_ff_shared */
    qrl_weight *ffn_gate_inp_shexp;                         /* 1 x n_embd: its sigmoid multiplies the shared expert */
    qrl_weight *attn_q_low;                                 /* q_lora_rank x n_embd: latent attention from here on */
    const float *attn_q_low_norm;                           /* [q_lora_rank] */
    qrl_weight *attn_q_full;                                /* n_head * k_dim_mla x q_lora_rank */
    qrl_weight *attn_latent, *attn_k_rope;                  /* kv_lora_rank, n_rot x n_embd */
    const float *attn_latent_norm;                          /* [kv_lora_rank] */
    qrl_weight **attn_k_heads;                              /* [n_head] of kv_lora_rank x (k_dim_mla - n_rot) */
    qrl_weight **attn_v_heads;                              /* [n_head] of v_dim_mla x kv_lora_rank */
    qrl_weight *ssm_gate;                                   /* d_inner x n_embd: recurrent layers from here on */
    qrl_weight *ssm_conv_in;                                /* n_cols x n_embd */
    qrl_weight *ssm_step;                                   /* n_step x n_embd */
    const float *ssm_conv, *ssm_conv_b;                     /* [d_conv][n_cols], [n_cols] */
    qrl_weight *ssm_dt_low, *ssm_b, *ssm_c;                 /* dt_rank, d_state, d_state x d_inner: Mamba */
    const float *ssm_dt_norm, *ssm_b_norm, *ssm_c_norm;     /* [rows of these] */
    qrl_weight *ssm_dt;                                     /* d_inner x dt_rank */
    const float *ssm_dt_b;                                  /* [d_inner] of Mamba, else [heads] */
    const float *ssm_a;                                     /* [d_state][d_inner] of Mamba, else [heads] */
    const float *ssm_d;                                     /* [d_inner] of Mamba, else [heads] */
    const float *ssm_norm;                                  /* [d_inner]; of the delta rule [d_inner / heads] */
    qrl_weight *ssm_out;                                    /* n_embd x d_inner */
} qrl_layer;

typedef struct qrl_global {
    qrl_weight *token_embd;                           /* n_vocab x n_embd */
    qrl_weight *position_embd;                        /* n_ctx x n_embd, looked up */
    const float *token_types;                         /* [n_token_types][n_embd] */
    const float *token_embd_norm, *token_embd_norm_b; /* [n_embd] */
    const float *output_norm, *output_norm_b;         /* [n_embd] */
    qrl_weight *output;                               /* n_vocab x n_embd; token_embd where the file has none */
    const float *output_b;                            /* [n_vocab] */
    const float *rope_freqs, *rope_long, *rope_short; /* [n_rot / 2] divisors of the frequencies, in host memory */
} qrl_global;

/* What a token costs (see qrl_model_info of quarrel.h). */
typedef struct qrl_model_cost {
    uint64_t n_params, weight_bytes, resident_bytes;
    uint64_t vector_bytes, mapped_bytes; /* of norms and biases; of the file, read where it lies */
    uint64_t macs_int8, macs_float, prompt_macs_int8, prompt_macs_float, read_bytes;
    uint64_t prompt_macs[QRL_TYPE_COUNT]; /* by type, of quantized weights: prompt_macs_int8 is their sum */
} qrl_model_cost;

struct qrl_model {
    qrl_gguf *gguf;
    qrl_tokenizer *tokenizer;
    const qrl_arch *arch;   /* NULL with vocab_only where this build does not know it */
    qrl_arch_set *arch_set; /* rows of load_params.arch_file; NULL: none */
    qrl_hparams hparams;
    const qrl_backend_ops *ops; /* NULL with vocab_only, and what follows */
    qrl_backend *backend;
    qrl_global global;
    qrl_layer *layers; /* [n_layer] */
    float *vectors;    /* all vectors, in the backend's memory */
    qrl_model_cost cost;
    bool measured;          /* to be looked at alone: see qrl_backend_params.measure */
    char *name, *arch_name; /* zero terminated copies of general.name and general.architecture */
    /* What a layer above has made of the vocabulary and keeps here for its next use; never NULL. */
    struct qrl_model_extra {
        pthread_mutex_t lock;
        void *data; /* under lock; NULL: nothing yet */
        void (*destroy)(void *data);
    } * extra;
};

typedef struct qrl_load_params {
    const char *backend; /* a name of backend/registry.c */
    qrl_backend_params backend_params;
    const char *override_pre; /* NULL: the file's */
    const char *arch_file;    /* rows of architectures that add to those of this build; NULL: none */
    bool vocab_only;
    void (*progress)(void *context, uint64_t done, uint64_t total); /* bytes of weights; may be NULL */
    void *progress_context;
} qrl_load_params;

/* What a recurrent layer carries from token to token: floats of its convolution, and of the rest. */
void qrl_hparams_state(const qrl_hparams *h, size_t *conv_floats, size_t *scan_floats);

/* The rows of architectures as texts: see qrl_architecture_* of quarrel.h. i and column are in range. */
size_t qrl_model_archs(void);
void qrl_model_arch_cell(size_t i, qrl_arch_column column, qrl_buf *out);
qrl_status qrl_model_arch_text(qrl_arch_topic topic, const char *name, qrl_buf *out, qrl_error *err);

/* Opens, checks, binds and prepares. Errors name the file and the key or tensors. */
qrl_status qrl_model_load(const char *path, const qrl_load_params *params, qrl_model **out, qrl_error *err);
void qrl_model_unload(qrl_model *m); /* NULL is fine */

#endif
