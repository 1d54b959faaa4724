/* Quarrel: an LLM inference engine. The only exported header.
 *
 * The nouns: a model (a GGUF file made ready to compute with), an engine (answers many requests at once
 * with one model), a request, and a session (one sequence of tokens and its cache, without an engine). Every call that
 * can fail returns a qrl_status, 0 being success, and fills the qrl_error it is given (which may be NULL) with one
 * sentence: what is wrong, where, and what to do. Nothing here prints, exits or keeps global state.
 *
 * Threads: calls that read a model (info, tokenize, token texts) may come from any number of threads at
 * once. Opening, closing and everything on sessions of one model: one call at a time. An engine computes on
 * a thread of its own and uses its model from creation to closing: no session of that model may be
 * created or used meanwhile. Engines and requests may be called from any thread, as each call says. Different models
 * are independent. On a CPU every result is the same to the bit whatever the instruction set, the number
 * of threads and the chunk (docs/numerics.md). */
#ifndef QUARREL_H
#define QUARREL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define QRL_API __attribute__((visibility("default")))
#else
#define QRL_API
#endif

typedef enum qrl_status {
    QRL_OK = 0,
    QRL_ERR_ARGUMENT,    /* the caller passed something impossible */
    QRL_ERR_IO,          /* the operating system refused */
    QRL_ERR_FORMAT,      /* the file's content is broken */
    QRL_ERR_UNSUPPORTED, /* well formed, but not something Quarrel can do */
    QRL_ERR_MEMORY,      /* an allocation failed */
    QRL_ERR_LIMIT,       /* a limit of the model, the settings or the machine */
    QRL_ERR_INTERNAL     /* a defect of Quarrel; please report it */
} qrl_status;

typedef struct qrl_error {
    qrl_status status;
    char text[1024]; /* one sentence, UTF-8, zero terminated */
} qrl_error;

/* "0.1.0" */
QRL_API const char *qrl_version(void);

/* Frees what a function of this header says to free with it. NULL is fine. */
QRL_API void qrl_free(void *p);

/* ---- models ---- */

typedef struct qrl_model qrl_model;

typedef struct qrl_model_params {
    int n_threads; /* 0: one for each core that the process may use */
    /* "scalar", "avx2", "avx-vnni", "avx512", "avx512-vnni", "amx"; NULL or "auto": the best there is */
    const char *isa;
    const char
        *override_pre;     /* a pre-tokenizer's name, to use instead of the one that the file names; NULL: the file's */
    const char *arch_file; /* a YAML or JSON file of architectures that add to the known ones, or take the place of
                              those with the same name (docs/adding-an-architecture.md); NULL: none */
    bool vocab_only;       /* metadata and tokenizer alone: no weights are read, no session can be made */
    /* Called on the opening thread while weights are prepared, `done` of `total` bytes; NULL: not. */
    void (*progress)(void *context, uint64_t done, uint64_t total);
    void *progress_context;
} qrl_model_params;

QRL_API qrl_model_params qrl_model_default_params(void);

/* Opens a GGUF file (the first part of a split one) and prepares its weights. params NULL: the
 * defaults; nothing of it is kept. Strict: a tensor that is missing, unknown or of another shape than
 * the hyperparameters say is an error, and all of them are named at once. The file must not be
 * changed while the model is open. */
QRL_API qrl_status qrl_model_open(const char *path, const qrl_model_params *params, qrl_model **out, qrl_error *err);
/* Close its sessions first. NULL is fine. */
QRL_API void qrl_model_close(qrl_model *m);

/* How the hidden states of a text's tokens become its vector: what the file says in ARCH.pooling_type (the numbers are
 * GGUF's). */
typedef enum qrl_pooling {
    QRL_POOLING_NONE, /* the file does not say */
    QRL_POOLING_MEAN, /* the mean of all tokens */
    QRL_POOLING_CLS,  /* the first token */
    QRL_POOLING_LAST, /* the last token */
    QRL_POOLING_RANK, /* a score by a classifier, which this version has not */
    QRL_POOLING_COUNT
} qrl_pooling;

/* What a model is and costs. Strings live as long as the model. With vocab_only, everything from
 * n_params on is 0, and what the architecture would say too where this build does not know it. */
typedef struct qrl_model_info {
    const char *path;
    const char *name;         /* general.name, or "" */
    const char *architecture; /* general.architecture */
    uint32_t n_vocab;         /* tokens */
    uint32_t n_out;           /* values a row that evaluation gives: n_vocab logits, or n_embd of an encoder */
    bool encoder;             /* gives hidden states instead of logits, of texts evaluated at once */
    qrl_pooling pooling;      /* how hidden states become one vector */
    uint32_t n_ctx_train;     /* positions that the model can take */
    uint32_t n_embd, n_layer, n_head, n_head_kv;
    uint64_t file_bytes; /* all parts of a split model */

    uint64_t n_params;       /* values in all tensors */
    uint64_t weight_bytes;   /* of all tensors, as the file has them */
    uint64_t resident_bytes; /* memory that prepared weights take, beside the file's mapping */
    /* What a token costs at least, attention aside, to compare a speed with qrl_limits: */
    uint64_t macs_int8, macs_float; /* multiply-adds with quantized and with float weights */
    uint64_t prompt_macs_int8;      /* the same of a prompt's token that gives no logits: without the output */
    uint64_t prompt_macs_float;     /* matrix and the last feed-forward block */
    uint64_t read_bytes;            /* weights that decoding one token reads */
    uint64_t kv_read_bytes;         /* cache (of the default types) that a token reads for each earlier position */
    uint64_t kv_macs;               /* multiply-adds of attention for each earlier position, in float */
    int n_threads;
    const char *isa;
} qrl_model_info;

QRL_API void qrl_model_get_info(const qrl_model *m, qrl_model_info *out);

/* ---- architectures ---- */

/* Columns of the matrix of supported architectures. */
typedef enum qrl_arch_column {
    QRL_COLUMN_NAME, /* general.architecture */
    QRL_COLUMN_NORM,
    QRL_COLUMN_ACTIVATION,
    QRL_COLUMN_POSITIONS,
    QRL_COLUMN_ATTENTION,
    QRL_COLUMN_WINDOW, /* and how many layers of a period have it */
    QRL_COLUMN_RESIDUAL,
    QRL_COLUMN_EXPERTS,
    QRL_COLUMN_RECURRENT,
    QRL_COLUMN_TENSORS, /* required + optional */
    QRL_COLUMN_COUNT
} qrl_arch_column;

typedef enum qrl_arch_topic {
    QRL_TOPIC_ROW,    /* an architecture as a file of architectures writes it */
    QRL_TOPIC_FIELDS, /* the fields that such a row may have: a line each */
    QRL_TOPIC_TENSORS /* the tensors that it may name: a line each */
} qrl_arch_topic;

QRL_API size_t qrl_architecture_count(void);
/* A cell of the matrix, for i below the count: a text to be freed with qrl_free, maybe empty. */
QRL_API qrl_status qrl_architecture_cell(size_t i, qrl_arch_column column, char **out, qrl_error *err);
/* A text to be freed with qrl_free. name: of the row; else not looked at. */
QRL_API qrl_status qrl_architecture_text(qrl_arch_topic topic, const char *name, char **out, qrl_error *err);

/* ---- text and tokens ---- */

enum {
    QRL_TOKENIZE_ADD_SPECIAL = 1,   /* BOS, EOS, SEP where this vocabulary wants them */
    QRL_TOKENIZE_PARSE_SPECIAL = 2, /* control tokens written out in the text become those tokens */
    QRL_TOKENIZE_FORCE_BOS = 4      /* BOS even where the vocabulary does not want it */
};

enum {
    QRL_DETOK_SPECIAL = 1, /* write special tokens out; else they are skipped */
    QRL_DETOK_CONTINUE = 2 /* the ids continue a text: keep the space that begins the first piece */
};

/* The ids of text [size], any bytes. *out is [*n], to be freed with qrl_free. */
QRL_API qrl_status qrl_model_tokenize(const qrl_model *m, const char *text, size_t size, unsigned flags, int32_t **out,
                                      size_t *n, qrl_error *err);
/* The text of ids [n], zero terminated UTF-8 of *size bytes, to be freed with qrl_free. */
QRL_API qrl_status qrl_model_detokenize(const qrl_model *m, const int32_t *ids, size_t n, unsigned flags, char **out,
                                        size_t *size, qrl_error *err);
/* The bytes that a token stands for, maybe half a character; not zero terminated, lives as long as the
 * model. Empty for an id outside the vocabulary. */
QRL_API const char *qrl_model_token_piece(const qrl_model *m, int32_t id, size_t *size);
/* The same as the vocabulary writes it: "\u0120the", "<0x0A>". */
QRL_API const char *qrl_model_token_text(const qrl_model *m, int32_t id, size_t *size);
/* Ends generation: EOS, EOT and their like. */
QRL_API bool qrl_model_token_is_eog(const qrl_model *m, int32_t id);

/* ---- chat ---- */

/* A chat template made ready: from messages to the tokens of a prompt. Rendering may be done from any
 * number of threads at once. The model must outlive it. */
typedef struct qrl_chat qrl_chat;

/* Where the template comes from: the model's file, unless name or source is given. */
typedef struct qrl_chat_params {
    const char *name;   /* one of Quarrel's own (qrl_chat_template_name), for models that carry none; NULL: not */
    const char *source; /* [source_size] a Jinja template, UTF-8; NULL: not */
    size_t source_size;
    const char *source_name; /* of source, for errors: the file; NULL: "the chat template" */
} qrl_chat_params;

/* "chatml", "llama3" ...; NULL behind the last. */
QRL_API const char *qrl_chat_template_name(size_t i);
/* params may be NULL. Fails for a model without a template when none is given, and for a template that
 * does not parse, with line and column. */
QRL_API qrl_status qrl_chat_create(const qrl_model *m, const qrl_chat_params *params, qrl_chat **out, qrl_error *err);
QRL_API void qrl_chat_close(qrl_chat *c); /* NULL is fine */
/* The template's text, as long as c lives. */
QRL_API const char *qrl_chat_source(const qrl_chat *c, size_t *size);
/* Does the template read this variable ("tools", "enable_thinking")? */
QRL_API bool qrl_chat_uses(const qrl_chat *c, const char *variable);
/* The format in which the template's models write calls of tools: "hermes", "mistral" ... (docs/tools.md). */
QRL_API const char *qrl_chat_reply_format(const qrl_chat *c);
/* Are marks of that format (NULL: the template's), or of reasoning, control tokens of the model? Then what makes out
 * calls and reasoning in an answer needs special_text. */
QRL_API bool qrl_chat_special_text(const qrl_chat *c, const char *format);

typedef struct qrl_chat_prompt {
    char *text; /* [size], zero terminated UTF-8 */
    size_t size;
    int32_t *tokens; /* [n_tokens] */
    size_t n_tokens;
} qrl_chat_prompt;

/* variables: a JSON object with what templates expect: "messages", "add_generation_prompt", "tools",
 * "documents" and the like; bos_token and eos_token are the model's. Messages and tools are OpenAI's: they are put into
 * the form that the template wants (arguments of calls as object or text), and tools are described in the system
 * message where the template has no place for them. Control tokens come from the
 * template alone: text in the variables that looks like one is text. now: seconds since 1970 for
 * templates that print the date; 0 is now. The prompt begins with BOS where the model wants it. */
QRL_API qrl_status qrl_chat_render(const qrl_chat *c, const char *variables, size_t size, int64_t now,
                                   qrl_chat_prompt *out, qrl_error *err);
QRL_API void qrl_chat_prompt_free(qrl_chat_prompt *p); /* back to empty */

/* ---- constrained output ---- */

/* What a text must match (docs/structured-output.md). Made once, it serves any number of requests and sessions of its
 * model, from any threads at once. */
typedef struct qrl_constraint qrl_constraint;

typedef enum qrl_constraint_kind {
    QRL_CONSTRAINT_JSON_SCHEMA, /* text: a JSON Schema, draft 2020-12 */
    QRL_CONSTRAINT_JSON_OBJECT, /* any JSON object; no text */
    QRL_CONSTRAINT_REGEX,       /* text: a regular expression for the whole answer */
    QRL_CONSTRAINT_CHOICE,      /* text: a JSON array of strings, one of which is the answer */
    QRL_CONSTRAINT_GRAMMAR,     /* text: a GBNF grammar */
    /* Free text in which calls of tools, where they begin, must be whole and have valid arguments (docs/tools.md).
     * text: a JSON object with "format" (qrl_chat_reply_format), "tools" (OpenAI's array), and what may be left out:
     * "parallel" (more than one call; default true), "special_text" (as of the request), "thinking" (the mark that the
     * prompt ends in, when it opens reasoning), "inside" (harmony: the prompt ends inside of a message), "forced" (the
     * text is a call, behind the beginning of it in the prompt), "named" (forced: the arguments of this tool alone). */
    QRL_CONSTRAINT_CALLS,
    QRL_CONSTRAINT_KIND_COUNT
} qrl_constraint_kind;

typedef struct qrl_constraint_params {
    qrl_constraint_kind kind;
    const char *text; /* [size], UTF-8 */
    size_t size;
    const char *name; /* of the source, for errors: the file; NULL: "schema", "regex" ... */
    /* The text before the trigger is free, the constraint is for all that follows it; without a trigger in it any
     * text will do. Both may be given: */
    const char *trigger; /* [trigger_size] bytes of the text, at most 256; NULL: none */
    size_t trigger_size;
    int32_t trigger_token; /* a token, control tokens included; -1: none                 default -1 */
} qrl_constraint_params;

QRL_API qrl_constraint_params qrl_constraint_default_params(void);

/* Fails closed: what cannot be honoured is refused with the path, line or column of the part. The model must
 * outlive the constraint. */
QRL_API qrl_status qrl_constraint_create(const qrl_model *m, const qrl_constraint_params *params, qrl_constraint **out,
                                         qrl_error *err);
/* Requests that use it keep it as long as they need it. NULL is fine. */
QRL_API void qrl_constraint_close(qrl_constraint *c);
/* *matches: whether this whole text could be an answer (what follows the trigger, where there is one). */
QRL_API qrl_status qrl_constraint_matches(const qrl_constraint *c, const char *text, size_t size, bool *matches,
                                          qrl_error *err);

/* ---- sessions ---- */

/* How keys and values are kept: the fewer bits, the longer a context fits into memory, and the further the results
 * are from exact ones (docs/kv-types.md). Bytes a value: 2, 4, 1.06, 0.56. */
typedef enum qrl_kv_type { QRL_KV_F16, QRL_KV_F32, QRL_KV_Q8_0, QRL_KV_Q4_0, QRL_KV_TYPE_COUNT } qrl_kv_type;

typedef struct qrl_session qrl_session;

/* A tensor of a forward pass, right after the operation that made it. */
typedef struct qrl_trace_point {
    const char *name;  /* "attn_norm", "q", "ffn_out" ... */
    int layer;         /* -1 outside the layers */
    const float *data; /* [n_rows][n_cols], valid during the call */
    size_t n_rows, n_cols;
} qrl_trace_point;

typedef struct qrl_session_params {
    uint32_t n_ctx;      /* positions to keep room for; 0: the model's length; more than that is an error */
    uint32_t n_ctx_most; /* where n_ctx is 0: no more than so many; 0: no bound */
    uint32_t chunk;      /* tokens that one step computes at most; results do not depend on it. 0: 512 */
    qrl_kv_type kv_type_k, kv_type_v;                           /* default F16 */
    void (*trace)(void *context, const qrl_trace_point *point); /* NULL: no tracing */
    void *trace_context;
} qrl_session_params;

QRL_API qrl_session_params qrl_session_default_params(void);

/* An empty sequence. All memory that evaluation takes is allocated here. */
QRL_API qrl_status qrl_session_create(qrl_model *m, const qrl_session_params *params, qrl_session **out,
                                      qrl_error *err);
QRL_API void qrl_session_close(qrl_session *s);            /* NULL is fine */
QRL_API uint32_t qrl_session_length(const qrl_session *s); /* tokens evaluated: the next one's position */
QRL_API uint32_t qrl_session_n_ctx(const qrl_session *s);
/* Forgets all tokens from position `length` on; nothing when there are fewer. */
QRL_API void qrl_session_truncate(qrl_session *s, uint32_t length);

typedef enum qrl_want { QRL_WANT_NONE, QRL_WANT_LAST, QRL_WANT_ALL } qrl_want;

/* Appends tokens [n] to the sequence. logits, in the caller's memory: [n_out] of the token after the
 * last (QRL_WANT_LAST), [n][n_out] (QRL_WANT_ALL), not touched (QRL_WANT_NONE, may be NULL). On
 * failure the sequence is as before. Allocates nothing. An encoder gives hidden states after the last
 * norm in place of logits, and takes a text into an empty sequence only. */
QRL_API qrl_status qrl_session_eval(qrl_session *s, const int32_t *tokens, size_t n, qrl_want want, float *logits,
                                    qrl_error *err);

/* How a session used the experts of its model since it was made; what lies behind the pointers is valid
 * until the next call on the session. */
typedef struct qrl_expert_stats {
    uint32_t n_layer, n_expert, n_used; /* n_expert 0: the model has no experts, and the rest is 0 */
    const uint64_t *chosen;             /* [n_layer][n_expert] tokens that chose the expert */
    const double *router_seconds;       /* [n_layer] */
    const double *expert_seconds;       /* [n_layer], the shared expert's not counted */
} qrl_expert_stats;

QRL_API void qrl_session_expert_stats(qrl_session *s, qrl_expert_stats *out);

/* ---- sampling ---- */

/* Added to a token's logit; -INFINITY bans the token. Several for one token add up. */
typedef struct qrl_logit_bias {
    int32_t token;
    float bias; /* finite or -INFINITY */
} qrl_logit_bias;

typedef struct qrl_sampler_params {
    double temperature; /* >= 0; 0 is greedy: filters and seed have no say then          default 0.8 */
    int32_t top_k;      /* keep the k greatest logits; 0 is off                          default 40 */
    double typical_p;   /* (0, 1]; 1 is off (locally typical sampling)                   default 1 */
    double top_p;       /* (0, 1]; 1 is off: the fewest tokens whose sum reaches top_p   default 0.95 */
    double min_p;       /* [0, 1]; 0 is off: probability >= min_p times the greatest     default 0.05 */

    /* Penalties count the last penalty_window accepted tokens (0: penalties are off)     default 64 */
    int32_t penalty_window;
    double repeat_penalty;    /* > 0; 1 is off: divides positive, multiplies other logits default 1 */
    double frequency_penalty; /* finite; subtracted once per occurrence                   default 0 */
    double presence_penalty;  /* finite; subtracted once if the token occurs              default 0 */

    const qrl_logit_bias *bias; /* [n_bias], copied by the sampler                        default none */
    size_t n_bias;
    uint64_t seed; /* any value                                                           default 0 */
} qrl_sampler_params;
/* The defaults named above. */
QRL_API qrl_sampler_params qrl_sampler_default_params(void);

typedef struct qrl_token_logprob {
    int32_t token;
    double logprob; /* natural logarithm; -INFINITY for a masked token */
} qrl_token_logprob;

/* ---- generation ---- */

typedef struct qrl_generate_params {
    qrl_sampler_params sampler;
    uint32_t max_tokens; /* stop after so many; default: no limit but the context's */
    bool ignore_eog;     /* go on behind an end token */
    bool special_text;   /* write control tokens out in the text (qrl_chat_special_text) */
    unsigned n_top;      /* log-probabilities of so many tokens at each place; 0: none */
    /* What the text must match; NULL: none. Ends the text itself (QRL_STOP_EOG) when nothing can follow, and an end
     * token, which stands where the text may end, ends it even with ignore_eog. Log-probabilities are the model's, as
     * without a constraint. */
    qrl_constraint *constraint;
} qrl_generate_params;

typedef enum qrl_stop {
    QRL_STOP_EOG,     /* the model ended its text */
    QRL_STOP_LENGTH,  /* max_tokens */
    QRL_STOP_CONTEXT, /* no room for another token */
    QRL_STOP_CALLER,  /* the callback said so */
    /* The rest for requests of an engine alone: */
    QRL_STOP_STRING,    /* one of the request's stop strings; it is not part of the text */
    QRL_STOP_TOKEN,     /* one of the request's stop tokens; it is not part of the answer */
    QRL_STOP_CANCELLED, /* qrl_request_cancel, or the engine was closed */
    QRL_STOP_DEADLINE,  /* the request's time was up */
    QRL_STOP_FAILED     /* see the result's error */
} qrl_stop;

/* One token, as it is chosen. Everything is valid during the call. */
typedef struct qrl_generated {
    int32_t token;
    uint32_t position; /* in the sequence */
    const char *text;  /* [text_size] whole UTF-8 characters that it completes, maybe none; not zero terminated */
    size_t text_size;
    double logprob;               /* of the token, at temperature 1; 0 when n_top is 0 */
    const qrl_token_logprob *top; /* [n_top], descending */
    size_t n_top;
} qrl_generated;

/* Called for each token, the end token left out; and at last with token -1 when bytes of an unfinished
 * character are left. False stops generation. */
typedef bool qrl_token_fn(void *context, const qrl_generated *g);

typedef struct qrl_generate_result {
    uint32_t n_prompt;    /* tokens of the prompt that were evaluated */
    uint32_t n_generated; /* tokens chosen, the end token left out */
    uint32_t n_decoded;   /* tokens evaluated after the prompt, in decode_seconds */
    qrl_stop stop;
    double prefill_seconds, decode_seconds;
} qrl_generate_result;

QRL_API qrl_generate_params qrl_generate_default_params(void);

/* Appends prompt [n_prompt] (at least one token) and generates. The sequence then holds the prompt and
 * every generated token but the last one chosen. result (may be NULL) is filled on success and on
 * failure. on_token may be NULL. */
QRL_API qrl_status qrl_session_generate(qrl_session *s, const int32_t *prompt, size_t n_prompt,
                                        const qrl_generate_params *params, qrl_token_fn *on_token, void *context,
                                        qrl_generate_result *result, qrl_error *err);

/* ---- engines ---- */

/* An engine answers many requests with one model. Each step computes the next token of every request that
 * is being answered, and beside them a chunk of the prompts that came in. On a CPU the tokens and
 * log-probabilities of a request are the same to the bit as if it were alone. */
typedef struct qrl_engine qrl_engine;
typedef struct qrl_request qrl_request;

typedef struct qrl_engine_params {
    uint32_t n_ctx;        /* positions of one request, prompt and answer together; 0: the model's length */
    uint32_t max_running;  /* requests that are computed at once; 0: 16 */
    uint32_t max_waiting;  /* requests that may wait; more are refused; 0: 1024 */
    uint32_t step_tokens;  /* prompt tokens that a step computes at most: bounds how long a long prompt holds up the
                              others; results do not depend on it. 0: 256 */
    uint32_t n_pages;      /* pages of 32 positions, for all requests and the prefix cache together; 0: room for
                              32,768 positions, or n_ctx where that is more, or max_running * n_ctx where less */
    uint32_t ageing_steps; /* a waiting request rises by one priority each so many steps; 0: 64 */
    qrl_kv_type kv_type_k, kv_type_v; /* default F16; the draft model's cache too */
    bool no_prefix_cache;             /* do not reuse what requests with the same beginning have computed */
    uint32_t n_checkpoints; /* where the prefix cache can take up a text of a model with recurrent layers or windows:
                               their states that it keeps at most; 0: what 512 MiB hold, 4 to 64 */
    const char *cache_file; /* the prefix cache begins with what qrl_engine_save_cache wrote; a file that is not there
                               is an empty one, one of another model or of other cache types is an error. NULL: empty */
    uint32_t lookup;        /* guess up to so many next tokens from the request's own text (0: none, at most 16); the
                               output is the same, faster where the text repeats itself */
    qrl_model *draft;       /* a small model with the same vocabulary that guesses instead; NULL: none. Not in use
                               elsewhere while the engine is open */
    bool always_guess;      /* also where measuring shows that it does not pay: for tests */
    uint32_t draft_max;     /* tokens that it guesses at most; 0: 8, at most 16 */
} qrl_engine_params;

QRL_API qrl_engine_params qrl_engine_default_params(void);

/* All memory that steps take is allocated here. model (and draft) must outlive the engine. */
QRL_API qrl_status qrl_engine_create(qrl_model *model, const qrl_engine_params *params, qrl_engine **out,
                                     qrl_error *err);
/* Cancels what is unfinished and waits for it: callbacks are over when this returns. Requests can still be
 * read, and must still be closed. From one thread, not from a callback. NULL is fine. */
QRL_API void qrl_engine_close(qrl_engine *e);

/* Waits until nothing is being computed, and writes the prefix cache to a file, which takes the place of one that is
 * there when all is written. Requests that are submitted meanwhile wait. Any thread but the engine's. */
QRL_API qrl_status qrl_engine_save_cache(qrl_engine *e, const char *path, qrl_error *err);

enum { QRL_SERVED_BUCKETS = 14 }; /* up to 4096 requests, and more */

typedef struct qrl_engine_stats {
    uint32_t n_running, n_waiting;
    uint32_t n_pages, n_pages_free, n_pages_cached; /* cached: kept by the prefix cache alone, taken back when needed */
    uint32_t n_window_pages, n_window_pages_free;   /* of layers with a window, where these give pages back */
    uint64_t n_steps, n_prompt_tokens, n_decoded_tokens; /* computed; a prompt's recomputed tokens count again */
    uint64_t n_generated;                                /* tokens chosen, those that end a text included */
    uint64_t n_finished, n_refused, n_preempted;
    uint64_t prefix_lookups, prefix_hit_tokens, prefix_evicted_pages;
    uint32_t n_checkpoints;              /* in the prefix cache */
    uint64_t n_drafted, n_accepted;      /* guessed tokens, and those that were right */
    uint64_t served[QRL_SERVED_BUCKETS]; /* steps by the requests that they served: bucket i up to 2^i, the last more */
    uint64_t n_served;                   /* requests, summed over the steps */
    /* Of steps that only decoded, to be compared with qrl_limits: the time of their forward passes, and what these
     * read at least: weights (experts as of one token) and what the cache holds of the requests (windows left out). */
    double decode_seconds;
    uint64_t decode_read_bytes;
} qrl_engine_stats;

/* As of the last step. Any thread. */
QRL_API void qrl_engine_get_stats(qrl_engine *e, qrl_engine_stats *out);

/* How often requests chose each expert, [n_layer][n_expert] into out, as far as n values reach; as of the last second,
 * or the last step of an engine that has nothing to do. Returns how many values there are: 0 for a model
 * without experts. Any thread. */
QRL_API size_t qrl_engine_get_experts(qrl_engine *e, uint64_t *out, size_t n, uint32_t *n_layer, uint32_t *n_expert);

/* ---- requests ---- */

typedef struct qrl_request_params {
    const int32_t *tokens; /* [n_tokens] the prompt; or NULL: */
    size_t n_tokens;
    const char *text; /* [text_size] the prompt, tokenized with tokenize_flags */
    size_t text_size;
    unsigned tokenize_flags; /* default QRL_TOKENIZE_ADD_SPECIAL */
    /* Or, where chat is not NULL, what it makes of variables [variables_size]: see qrl_chat_render. The others are
     * not looked at then. */
    const qrl_chat *chat;
    const char *variables; /* {"messages": [...], "add_generation_prompt": true} */
    size_t variables_size;
    qrl_sampler_params sampler;
    uint32_t max_tokens;     /* of the answer; default: no limit but the context's */
    const char *const *stop; /* [n_stop] zero terminated; the text ends before the first of them */
    size_t n_stop;
    const int32_t *stop_tokens; /* [n_stop_tokens] the answer ends before the first of them */
    size_t n_stop_tokens;
    bool ignore_eog;            /* go on behind an end token */
    bool special_text;          /* write control tokens out in the text (qrl_chat_special_text) */
    bool logprobs;              /* keep the log-probability of each token */
    bool embed;                 /* no answer, but the prompt's embedding: the last token's state after the last norm */
    unsigned n_top;             /* and of so many of the likeliest tokens at its place; implies logprobs */
    int priority;               /* -100 to 100; greater ones go first, equal ones in the order of their arrival */
    double deadline;            /* seconds from submission; 0: none */
    bool no_prefix_cache;       /* compute the whole prompt, and leave nothing for others */
    qrl_constraint *constraint; /* as for qrl_session_generate; the request keeps it. NULL: none */

    /* Both are called on the engine's thread, which computes nothing meanwhile: be quick, and call nothing
     * of this header but qrl_request_cancel, qrl_request_close and what only reads a model. */
    qrl_token_fn *on_token; /* as for qrl_session_generate; text never contains a stop string. NULL: none */
    void (*on_done)(void *context, qrl_request *r); /* once, at last; the result may be read. NULL: none */
    void *context;
} qrl_request_params;

QRL_API qrl_request_params qrl_request_default_params(void);

typedef struct qrl_request_result {
    qrl_status status; /* not 0: error says why, and what was generated until then is here */
    qrl_error error;
    qrl_stop stop;
    uint32_t n_prompt;
    uint32_t n_cached; /* of these, found in the prefix cache and not computed (when it last began) */
    uint32_t n_generated;
    const int32_t *tokens;        /* [n_generated], the end token left out */
    const double *logprobs;       /* [n_generated], or NULL */
    const qrl_token_logprob *top; /* [n_generated][n_top], or NULL */
    unsigned n_top;
    size_t stop_index;              /* for QRL_STOP_STRING: which of the stop strings */
    const float *embedding;         /* [n_embd] when it was asked for, not normalized; else NULL */
    uint32_t n_preempted;           /* times that it lost its pages to others and began again */
    uint32_t n_drafted, n_accepted; /* guessed tokens, and those that were right */
    double wait_seconds;            /* from submission to the first step */
    double first_token_seconds;     /* from submission to the first token; 0: there was none */
    double total_seconds;           /* from submission to the end */
} qrl_request_result;

/* Checks, copies what params point to, and puts the request into the queue; computes nothing. Refuses with
 * QRL_ERR_LIMIT when the queue is full or the prompt is longer than the context. Any thread. */
QRL_API qrl_status qrl_engine_submit(qrl_engine *e, const qrl_request_params *params, qrl_request **out,
                                     qrl_error *err);
/* Ends the request within one step; nothing when it is done. Returns at once. Any thread. */
QRL_API void qrl_request_cancel(qrl_request *r);
QRL_API bool qrl_request_is_done(qrl_request *r); /* any thread */

typedef enum qrl_request_state {
    QRL_REQUEST_QUEUED, /* also when others took its pages */
    QRL_REQUEST_PREFILL,
    QRL_REQUEST_DECODE
} qrl_request_state;

typedef struct qrl_request_progress {
    qrl_request_state state;
    uint32_t n_prompt;
    uint32_t n_computed; /* of the prompt: in the cache */
    uint32_t n_generated;
} qrl_request_progress;

/* How far it is, as of its last step. Any thread, until it is closed. */
QRL_API void qrl_request_get_progress(qrl_request *r, qrl_request_progress *out);
/* Waits for the end. result (may be NULL) points into the request. Returns the result's status, err (may be
 * NULL) getting its error. Any thread but the engine's. */
QRL_API qrl_status qrl_request_wait(qrl_request *r, qrl_request_result *result, qrl_error *err);
/* The text of the answer, without a stop string, when the request is done: zero terminated UTF-8 of *size bytes, to be
 * freed with qrl_free. Any thread. */
QRL_API qrl_status qrl_request_text(qrl_request *r, char **out, size_t *size, qrl_error *err);
/* Cancels what is not done, waits for it, and frees the request. Any thread, once; in a callback too, which
 * then is the last. NULL is fine. */
QRL_API void qrl_request_close(qrl_request *r);

/* Submits, waits, and gives the text, as one call. */
QRL_API qrl_status qrl_engine_generate(qrl_engine *e, const qrl_request_params *params, char **text, size_t *size,
                                       qrl_error *err);

/* ---- memory before loading ---- */

/* For what memory is planned: an engine, or one session. */
typedef struct qrl_plan_params {
    const qrl_session_params *session; /* NULL: an engine */
    const qrl_engine_params *engine;   /* NULL: its defaults. Its draft is not looked at, but: */
    const char *draft;                 /* path of the model that guesses for the engine; NULL: none */
} qrl_plan_params;

/* Bytes that a model and its engine or session take. */
typedef struct qrl_memory_plan {
    uint64_t weights;     /* prepared */
    uint64_t tokenizer;   /* vocabulary and its tables */
    uint64_t kv;          /* keys and values; they cost nothing before they are used */
    uint64_t states;      /* of recurrent layers, with the checkpoints that the prefix cache keeps; likewise */
    uint64_t activations; /* of the largest step */
    uint64_t scratch;     /* of the operations */
    uint64_t step;        /* logits, tables and queues */
    uint64_t draft;       /* everything of the guessing model */
    uint64_t total;
    uint64_t mapped;         /* not in it: weights that are read from the file's mapping; the system can drop them */
    uint64_t kv_token_bytes; /* of kv, for each position */
    uint32_t n_ctx, n_pages; /* settled; n_pages 0 for a session */
} qrl_memory_plan;

/* What opening the model, and making the engine or session, would allocate: the file's tables alone are read. */
QRL_API qrl_status qrl_plan_memory(const char *path, const qrl_model_params *model, const qrl_plan_params *params,
                                   qrl_memory_plan *out, qrl_error *err);

/* ---- the machine ---- */

/* What this machine can do at most: each in operations or bytes a second over the given threads. */
typedef struct qrl_limits {
    double int8_macs, f32_macs, bf16_macs; /* multiply-adds a second: of bytes, exactly summed; bf16 0: there is none */
    double tile_macs;  /* of bytes in tile registers (AMX), in sums of 64 at once; 0: there are none */
    double read_bytes; /* sustained read bandwidth */
} qrl_limits;

/* Measures now; takes about a second. n_threads and isa as in qrl_model_params. */
QRL_API qrl_status qrl_measure_limits(int n_threads, const char *isa, qrl_limits *out, qrl_error *err);
/* The same with the model's threads and instruction set, and with int8_macs for the mixture of its quantized types:
 * without an instruction for four products of bytes (AVX2), weights of few bits allow shorter sums than bytes. */
QRL_API qrl_status qrl_model_measure_limits(const qrl_model *model, qrl_limits *out, qrl_error *err);

#ifdef __cplusplus
}
#endif
#endif
