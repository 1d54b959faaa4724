/* The attention block: queries, keys and values of the rows at hand, keys and values into the cache,
 * attention over it. */
#include "forward/forward_int.h"

#include <math.h>

static void clamp(const qrl_pass *p, float *x, size_t n_cols) {
    if (p->hp->clamp_qkv > 0)
        p->ops->map(p->b, &(qrl_map_op){QRL_MAP_CLAMP, x, p->n * n_cols, p->hp->clamp_qkv});
}

/* Queries with gates, head by head, to f->q and f->att_gate. */
static void part_gates(const qrl_pass *p) {
    const qrl_forward *f = p->f;
    const size_t dim = p->hp->k_dim;
    float *const to[] = {f->q, f->att_gate};
    for (size_t i = 0; i < 2; i++)
        p->ops->copy(p->b, &(qrl_copy_op){.x = f->q_gated + i * dim,
                                          .out = to[i],
                                          .n_rows = p->n * p->lp->n_head,
                                          .n_cols = dim,
                                          .x_row = 2 * dim,
                                          .out_row = dim});
}

static void project(const qrl_pass *p, size_t n_q, size_t n_k, size_t n_v) {
    const qrl_forward *f = p->f;
    const qrl_layer *l = p->l;
    const bool gated = p->hp->attn_gate;
    p->ops->linear(p->b, &(qrl_linear_op){.n = 3,
                                          .weight = {l->attn_q, l->attn_k, l->attn_v},
                                          .bias = {l->attn_q_b, l->attn_k_b, l->attn_v_b},
                                          .out = {gated ? f->q_gated : f->q, f->k, f->v},
                                          .x = p->h,
                                          .n_rows = p->n,
                                          /* a score is an exponent, a router jumps: docs/numerics.md */
                                          .fine = p->hp->moe.n_expert != 0});
    if (gated)
        part_gates(p);
    clamp(p, f->q, n_q);
    clamp(p, f->k, n_k);
    clamp(p, f->v, n_v);
    qrl_see(p, "q", f->q, n_q);
    qrl_see(p, "k", f->k, n_k);
    qrl_see(p, "v", f->v, n_v);
}

/* Norm of each head, or of the row; without weight where the model norms plainly. */
static void norm_heads(const qrl_pass *p, const char *name, float *x, uint32_t n_head, const float *weight,
                       const float *bias) {
    const qrl_hparams *hp = p->hp;
    const bool plain = hp->qk_norm_plain && p->lp->rope >= 0;
    if (!weight && !plain)
        return;
    p->ops->norm(p->b, &(qrl_norm_op){.kind = hp->norm,
                                      .x = x,
                                      .weight = weight,
                                      .bias = bias,
                                      .out = x,
                                      .n_rows = p->n,
                                      .n_cols = (size_t)n_head * hp->k_dim,
                                      .groups = hp->qk_norm == QRL_QK_NORM_ROW ? 1 : n_head,
                                      .each = hp->qk_norm == QRL_QK_NORM_EACH,
                                      .eps = hp->norm_eps});
    qrl_see(p, name, x, (size_t)n_head * hp->k_dim);
}

static void rope(const qrl_pass *p, const char *name, float *x, uint32_t n_head) {
    if (p->lp->rope < 0)
        return;
    const qrl_rope_params *r = &p->hp->ropes[p->lp->rope];
    p->ops->rope(p->b, &(qrl_rope_op){.kind = r->kind,
                                      .x = x,
                                      .cossin = p->f->cossin[p->lp->rope],
                                      .n_rows = p->n,
                                      .n_head = n_head,
                                      .head_dim = p->hp->k_dim,
                                      .n_rot = r->n_rot});
    qrl_see(p, name, x, (size_t)n_head * p->hp->k_dim);
}

static void place(const qrl_pass *p) {
    const qrl_forward *f = p->f;
    const qrl_layer *l = p->l;
    const uint32_t n_head = p->lp->n_head, n_kv = p->lp->n_head_kv;
    const bool late = p->hp->qk_norm_late;
    for (int turn = 0; turn < 2; turn++)
        if ((turn == 1) == late) {
            norm_heads(p, "q_norm", f->q, n_head, l->q_norm, l->q_norm_b);
            norm_heads(p, "k_norm", f->k, n_kv, l->k_norm, l->k_norm_b);
        } else {
            rope(p, "q_rope", f->q, n_head);
            rope(p, "k_rope", f->k, n_kv);
        }
    if (p->lp->temperature) {
        p->ops->scale_rows(p->b, f->q, f->temperature, p->n, (size_t)n_head * p->hp->k_dim);
        qrl_see(p, "q_scaled", f->q, (size_t)n_head * p->hp->k_dim);
    }
}

void qrl_pass_attend(qrl_pass *p) {
    const qrl_forward *f = p->f;
    const qrl_hparams *hp = p->hp;
    const qrl_kv_layer cache = qrl_kv_layer_at(p->kv, (uint32_t)p->layer);
    p->ops->attention(p->b, &(qrl_attention_op){.kv = cache,
                                                .k = f->k,
                                                .v = f->v,
                                                .q = f->q,
                                                .out = f->att,
                                                .spans = p->step->spans,
                                                .n_spans = p->step->n_spans,
                                                .n_head = p->lp->n_head,
                                                .scale = hp->attn_scale,
                                                .softcap = hp->attn_softcap,
                                                .window = p->lp->window,
                                                .chunked = hp->window_chunked,
                                                .bidirectional = !hp->causal,
                                                .sinks = p->l->attn_sinks,
                                                .slopes = f->slopes});
}

void qrl_block_attention(qrl_pass *p, float *out) {
    const qrl_forward *f = p->f;
    const qrl_hparams *hp = p->hp;
    const qrl_layer *l = p->l;
    const size_t n_head = p->lp->n_head, n_kv = p->lp->n_head_kv;
    project(p, n_head * hp->k_dim, n_kv * hp->k_dim, n_kv * hp->v_dim);
    place(p);
    qrl_pass_attend(p);
    qrl_see(p, "attn_heads", f->att, n_head * hp->v_dim);
    if (hp->attn_gate) {
        p->ops->glu(p->b, &(qrl_glu_op){QRL_ACT_SIGMOID, f->att_gate, f->att, f->att, p->n * n_head * hp->v_dim});
        qrl_see(p, "attn_gated", f->att, n_head * hp->v_dim);
    }
    qrl_pass_linear(p, l->attn_output, l->attn_o_b, f->att, out);
    qrl_see(p, "attn_out", out, hp->n_embd);
}
