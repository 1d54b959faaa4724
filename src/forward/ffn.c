/* The dense feed-forward block: down(act(gate(h)) * up(h)), or down(act(up(h))) where there is no gate. */
#include "forward/forward_int.h"

/* Step by step, for those who look on. */
static void feed_seen(qrl_pass *p, const qrl_feed *w, float *out) {
    const qrl_forward *f = p->f;
    const bool gated = w->gate != NULL;
    p->ops->linear(p->b, &(qrl_linear_op){.n = gated ? 2 : 1,
                                          .weight = {gated ? w->gate : w->up, gated ? w->up : NULL},
                                          .bias = {gated ? w->gate_b : w->up_b, gated ? w->up_b : NULL},
                                          .out = {gated ? f->gate : f->up, gated ? f->up : NULL},
                                          .x = p->h,
                                          .n_rows = p->n});
    if (gated)
        qrl_see(p, w->names[0], f->gate, w->n_ff);
    qrl_see(p, w->names[1], f->up, w->n_ff);
    p->ops->glu(p->b, &(qrl_glu_op){p->hp->act, gated ? f->gate : NULL, f->up, f->up, p->n * w->n_ff});
    qrl_see(p, w->names[2], f->up, w->n_ff);
    qrl_pass_linear(p, w->down, w->down_b, f->up, out);
    qrl_see(p, w->names[3], out, p->hp->n_embd);
}

void qrl_pass_feed(qrl_pass *p, const qrl_feed *w, float *out) {
    if (p->f->trace.see)
        feed_seen(p, w, out);
    else
        p->ops->ffn(p->b, &(qrl_ffn_op){.act = p->hp->act,
                                        .gate = w->gate,
                                        .up = w->up,
                                        .down = w->down,
                                        .gate_b = w->gate_b,
                                        .up_b = w->up_b,
                                        .down_b = w->down_b,
                                        .x = p->h,
                                        .mid = p->f->up,
                                        .out = out,
                                        .n_rows = p->n});
}

void qrl_block_ffn(qrl_pass *p, float *out) {
    const qrl_layer *l = p->l;
    const qrl_feed w = {.gate = l->ffn_gate,
                        .up = l->ffn_up,
                        .down = l->ffn_down,
                        .gate_b = l->ffn_gate_b,
                        .up_b = l->ffn_up_b,
                        .down_b = l->ffn_down_b,
                        .n_ff = p->lp->n_ff,
                        .names = {"ffn_gate", "ffn_up", "ffn_act", "ffn_out"}};
    qrl_pass_feed(p, &w, out);
}
