/* A section of calls, behind the mark that opens it: JSON objects or a list of them, and what some models write
 * instead. in[at, cur) has been read and could still turn out to be text: it is kept until its call is told. */
#include "text/reply_int.h"

#include <stdlib.h>
#include <string.h>

void reply_section_enter(qrl_reply *r, const reply_section *s, size_t mark) {
    r->section = s;
    r->mark = mark;
    r->cur = r->at + strlen(s->open);
    r->place = s->lead ? AT_MARK : s->body == REPLY_FUNCTION ? AT_NAME : AT_LEAD;
    r->list = r->items = false;
    r->told = false;
    r->state = REPLY_SECTION;
}

static size_t left(const qrl_reply *r) {
    return r->in.size - r->cur;
}

static const char *here(const qrl_reply *r) {
    return r->in.data + r->cur;
}

/* This is no call, or not any more: it is text. What is told is told; of the rest the mark at least is content. */
static bool give_up(qrl_reply *r) {
    const bool cut = r->cur >= r->in.size && r->last; /* all of the rest, which need not be searched again */
    const size_t n = r->told ? 0 : cut ? r->in.size - r->at : r->mark;
    if (r->told) { /* the call stays as it was told, without its end */
        r->n_calls += !r->mute;
        r->strip = false;
    }
    reply_tell_text(r, QRL_REPLY_CONTENT, r->in.data + r->at, n);
    r->at += n;
    reply_call_free(&r->call);
    r->told = false;
    r->n_failures++;
    r->state = REPLY_CONTENT;
    return true;
}

/* Waits for more text; at its end there is none. */
static bool wait(qrl_reply *r) {
    if (!r->last)
        return false;
    if (r->told && r->cur >= r->in.size) { /* cut off: what was told stays */
        r->n_calls += !r->mute;
        r->told = false;
        reply_call_free(&r->call);
        r->at = r->in.size;
        reply_drop_space(r);
        r->state = REPLY_CONTENT;
        return false;
    }
    return give_up(r);
}

/* At cur: a mark (taken), the beginning of one, or neither. */
static reply_match take(qrl_reply *r, const char *mark) {
    const reply_match m = reply_begins(here(r), left(r), mark);
    if (m == REPLY_YES)
        r->cur += strlen(mark);
    return m == REPLY_PARTLY && r->last ? REPLY_NO : m;
}

static void spaces(qrl_reply *r) {
    r->cur = reply_skip_space(r, r->cur);
}

static void begin_call(qrl_reply *r, const char *name, size_t size) {
    reply_call_free(&r->call);
    reply_call_init(&r->call, name, size);
    r->call.strict = r->section->body == REPLY_STRICT;
    r->call.exact = r->call.strict && r->params.exact;
    r->n_params = 0;
    r->told = false;
    r->place = AT_CALL;
}

/* The call is whole. */
static bool finish_call(qrl_reply *r) {
    reply_end_call(r);
    r->at = r->cur;
    r->mark = 0;
    r->place = AT_BETWEEN;
    return true;
}

/* ---- places ---- */

static bool at_mark(qrl_reply *r) {
    spaces(r);
    const reply_match m = left(r) ? take(r, r->section->lead) : REPLY_PARTLY;
    if (m == REPLY_PARTLY)
        return wait(r);
    r->place = AT_LEAD;
    return m == REPLY_YES ? true : give_up(r);
}

static bool at_lead(qrl_reply *r) {
    spaces(r);
    if (!left(r))
        return wait(r);
    const char c = *here(r);
    const reply_body body = r->section->body;
    if (body == REPLY_DEEPSEEK || body == REPLY_ESCAPED || body == REPLY_BARRED) {
        r->place = body == REPLY_DEEPSEEK ? AT_DEEPSEEK : AT_ESCAPED;
        return true;
    }
    if (c == '[') {
        r->list = true;
        r->cur++;
        r->place = AT_VALUE;
        return true;
    }
    if (c == '{') {
        begin_call(r, NULL, 0);
        return true;
    }
    if (body == REPLY_PYTHON) {
        r->place = AT_PYTHON;
        return true;
    }
    if (body == REPLY_NAMED) {
        r->place = AT_NAMED;
        return true;
    }
    const reply_match m = body == REPLY_JSON ? take(r, "<function=") : REPLY_NO; /* Qwen Coder, Nemotron 3 */
    if (m == REPLY_PARTLY)
        return wait(r);
    r->place = AT_NAME;
    return m == REPLY_YES ? true : give_up(r);
}

/* In a list, before a call. */
static bool at_value(qrl_reply *r) {
    const bool python = r->section->body == REPLY_PYTHON || (r->section->body == REPLY_STRICT && r->format->pythonic);
    spaces(r);
    if (!left(r))
        return wait(r);
    if (python && *here(r) != '{') {
        r->place = AT_ITEM;
        return true;
    }
    if (*here(r) != '{')
        return give_up(r);
    begin_call(r, NULL, 0);
    return true;
}

static bool is_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("_-.:/", c) != NULL;
}

/* A name at cur, up to what cannot be in one; 0: none. *end: whether something stands behind it. */
static size_t name_here(const qrl_reply *r, bool *end) {
    size_t n = 0;
    while (n < left(r) && here(r)[n] && is_name(here(r)[n]))
        n++;
    *end = n < left(r) || n > REPLY_MAX_NAME;
    return n <= REPLY_MAX_NAME ? n : 0;
}

/* <function=NAME> */
static bool at_name(qrl_reply *r) {
    bool end;
    const size_t n = name_here(r, &end);
    if (!end)
        return wait(r);
    if (!n || here(r)[n] != '>')
        return give_up(r);
    begin_call(r, here(r), n);
    r->cur += n + 1;
    r->place = AT_FUNCTION;
    return true;
}

/* Mistral: NAME[ARGS]{...}, NAME[CALL_ID]ID[ARGS]{...}, NAME{...} */
static bool at_named(qrl_reply *r) {
    bool end, id_end;
    const size_t start = r->cur, n = name_here(r, &end);
    if (!end || !n)
        return end ? give_up(r) : wait(r);
    r->cur += n;
    spaces(r);
    reply_match m = take(r, "[CALL_ID]");
    if (m == REPLY_YES) {
        r->cur += name_here(r, &id_end);
        m = left(r) ? REPLY_NO : REPLY_PARTLY;
    }
    if (m == REPLY_NO)
        m = left(r) ? take(r, "[ARGS]") : REPLY_PARTLY;
    const size_t behind = r->cur;
    spaces(r);
    const bool brace = left(r) && *here(r) == '{';
    r->cur = behind;
    if (m == REPLY_PARTLY || (!brace && reply_skip_space(r, behind) == r->in.size)) {
        const bool give = r->last;
        r->cur = give ? r->in.size : start; /* all of it is read again when more has come */
        return give ? give_up(r) : false;
    }
    if (!brace)
        return give_up(r);
    begin_call(r, r->in.data + start, n);
    return true;
}

/* Arguments are told as they come: an object's; null becomes {} and a string what it holds when they are whole. */
static bool may_tell(const qrl_reply *r) {
    const reply_call *c = &r->call;
    if (r->params.whole_calls || !c->named || !c->arguments.size || c->quoted)
        return false;
    if (c->strict && !reply_knows(r, c->name.data))
        return false;
    return r->told || c->arguments.data[0] == '{';
}

static bool at_call(qrl_reply *r) {
    reply_step step = REPLY_MORE;
    while (step == REPLY_MORE && r->cur < r->in.size) {
        reply_call *c = &r->call;
        const bool named = c->named;
        step = reply_call_feed(c, (unsigned char)r->in.data[r->cur]);
        if (step == REPLY_BAD)
            break;
        r->cur++;
        if (!named && c->named && c->strict && !reply_knows(r, c->name.data))
            step = REPLY_BAD;
    }
    if (step != REPLY_DONE && may_tell(r)) {
        reply_tell_call(r);
        r->at = r->cur;
    }
    if (step == REPLY_BAD)
        return give_up(r);
    if (step == REPLY_MORE)
        return wait(r);
    if (!r->call.only_arguments || r->section->body == REPLY_NAMED)
        return finish_call(r);
    r->place = r->section->body == REPLY_DEEPSEEK ? AT_DEEPSEEK_END : AT_FUNCTION_END;
    return true;
}

/* ---- <function=NAME>, then JSON or <parameter=KEY>VALUE</parameter> ---- */

static bool at_function(qrl_reply *r) {
    spaces(r);
    if (!left(r))
        return wait(r);
    if (*here(r) == '{' && r->n_params == 0) {
        r->place = AT_CALL;
        return true;
    }
    const reply_match p = take(r, "<parameter="), e = p == REPLY_NO ? take(r, "</function>") : REPLY_NO;
    if (p == REPLY_PARTLY || e == REPLY_PARTLY)
        return wait(r);
    if (p == REPLY_NO && e == REPLY_NO)
        return give_up(r);
    if (e == REPLY_YES) {
        qrl_buf_str(&r->call.arguments, r->n_params ? "}" : "{}");
        return finish_call(r);
    }
    r->place = AT_PARAMETER;
    return true;
}

static bool at_function_end(qrl_reply *r) {
    spaces(r);
    const reply_match m = left(r) ? take(r, "</function>") : REPLY_PARTLY;
    if (m == REPLY_PARTLY && !r->last)
        return false;
    return finish_call(r); /* its end may be missing */
}

/* A value as written: text where the tool's schema says so or where it is no JSON. */
static json_t *read_value(const json_t *schema, const char *text, size_t size) {
    const char *type = json_string_value(json_object_get(schema, "type"));
    json_t *v = type && strcmp(type, "string") == 0 ? NULL : json_loadb(text, size, JSON_DECODE_ANY, NULL);
    if (json_is_string(v) && !type) { /* quotes that nobody asked for are the text's */
        json_decref(v);
        v = NULL;
    }
    return v ? v : json_stringn(text, size);
}

/* Appends "key": value, and a brace or comma before. False: it is no text. */
static bool add_parameter(qrl_reply *r, const char *key, size_t key_size, const char *text, size_t size) {
    json_t *k = json_stringn(key, key_size);
    const json_t *schema = k ? reply_parameter(r, r->call.name.data, json_string_value(k)) : NULL;
    json_t *v = read_value(schema, text, size);
    char *key_text = k ? json_dumps(k, JSON_ENCODE_ANY) : NULL, *value = v ? json_dumps(v, JSON_ENCODE_ANY) : NULL;
    const bool ok = key_text && value;
    if (ok)
        qrl_buf_printf(&r->call.arguments, "%s%s: %s", r->n_params++ ? ", " : "{", key_text, value);
    free(key_text);
    free(value);
    json_decref(k);
    json_decref(v);
    return ok;
}

static bool at_parameter(qrl_reply *r) {
    static const char close[] = "</parameter>";
    bool end;
    const size_t n = name_here(r, &end);
    if (!end)
        return wait(r);
    if (!n || here(r)[n] != '>')
        return give_up(r);
    const char *value = here(r) + n + 1, *stop = r->in.data + r->in.size;
    size_t size = r->scanned;
    while (value + size + sizeof close - 1 <= stop && memcmp(value + size, close, sizeof close - 1) != 0)
        size++;
    if (value + size + sizeof close - 1 > stop) {
        r->scanned = r->last ? 0 : size;
        if (r->last)
            r->cur = r->in.size;
        return wait(r);
    }
    const char *key = here(r);
    r->scanned = 0;
    r->cur += n + 1 + size + sizeof close - 1;
    if (size && *value == '\n') { /* the lines that the marks stand on */
        value++;
        size--;
    }
    if (size && value[size - 1] == '\n')
        size--;
    if (!add_parameter(r, key, n, value, size))
        return give_up(r);
    r->place = AT_FUNCTION;
    if (!r->params.whole_calls) {
        reply_tell_call(r);
        r->at = r->cur;
    }
    return true;
}

/* ---- Llama's built-in tools ---- */

/* {"code": text}, malloc'ed */
static char *code_object(const char *text, size_t size) {
    json_t *o = json_pack("{s:s%}", "code", text, size);
    char *dump = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    return dump;
}

const char *const reply_interpreters[] = {"python", "ipython", "code_interpreter", NULL};

static bool at_python(qrl_reply *r) {
    qrl_buf name = {0}, arguments = {0};
    if (!r->last)
        return false;
    const char *text = here(r);
    const size_t size = left(r);
    r->cur = r->in.size;
    if (reply_python_call(text, size, &name, &arguments) && reply_knows(r, name.data)) {
        begin_call(r, name.data, name.size);
    } else {
        const char *found = NULL;
        for (size_t i = 0; reply_interpreters[i] && r->tools; i++)
            if (reply_knows(r, reply_interpreters[i]))
                found = reply_interpreters[i];
        char *code = found ? code_object(text, size) : NULL;
        arguments.size = 0;
        if (code) {
            begin_call(r, found, strlen(found));
            qrl_buf_str(&arguments, code);
        }
        free(code);
    }
    const bool is_call = r->place == AT_CALL;
    if (is_call)
        qrl_buf_append(&r->call.arguments, arguments.data, arguments.size);
    r->failed = r->failed || name.failed || arguments.failed;
    qrl_buf_free(&name);
    qrl_buf_free(&arguments);
    return is_call ? finish_call(r) : give_up(r);
}

/* ---- NAME(key=value), call:NAME{key:value} ---- */

/* Begins a call of the name at cur, with members behind what opens them. */
static bool enter_members(qrl_reply *r, size_t name, reply_members m) {
    begin_call(r, here(r), name);
    r->cur += name;
    spaces(r);
    r->cur++;
    r->members = m;
    r->place = AT_MEMBERS;
    return true;
}

/* In a list, before NAME(key=value): a tool's, for all that begins with a bracket looks like it. */
static bool at_item(qrl_reply *r) {
    bool end;
    const size_t start = r->cur, n = name_here(r, &end);
    if (!end || !n)
        return end ? give_up(r) : wait(r);
    r->cur += n;
    spaces(r);
    const bool more = left(r) > 0, open = more && *here(r) == '(';
    r->cur = more || r->last ? r->cur : start; /* all of it is read again */
    if (!open)
        return more ? give_up(r) : wait(r);
    r->cur = start;
    enter_members(r, n, (reply_members){.assign = '=', .close = ')'});
    return reply_knows(r, r->call.name.data ? r->call.name.data : "") ? true : give_up(r);
}

static bool at_escaped(qrl_reply *r) {
    static const char word[] = "call:";
    bool end;
    spaces(r);
    const reply_match m = left(r) ? reply_begins(here(r), left(r), word) : REPLY_PARTLY;
    if (m == REPLY_NO)
        return give_up(r);
    if (m == REPLY_PARTLY)
        return wait(r);
    const size_t start = r->cur;
    r->cur += sizeof word - 1;
    const size_t n = name_here(r, &end);
    if (!end) {
        r->cur = r->last ? r->in.size : start;
        return wait(r);
    }
    if (!n || here(r)[n] != '{')
        return give_up(r);
    return enter_members(r, n,
                         (reply_members){.quote = r->section->body == REPLY_ESCAPED ? "<escape>" : "<|\"|>",
                                         .assign = ':',
                                         .close = '}'});
}

static bool at_members(qrl_reply *r) {
    const reply_step step = reply_members_scan(&r->members, here(r), left(r));
    if (step == REPLY_MORE && r->last)
        r->cur = r->in.size;
    if (step == REPLY_MORE)
        return wait(r);
    if (step == REPLY_BAD || !reply_members_write(&r->members, here(r), r->members.at, &r->call.arguments))
        return give_up(r);
    r->cur += r->members.at + 1;
    r->items = r->list;
    return finish_call(r);
}

/* ---- DeepSeek ---- */

static bool at_deepseek(qrl_reply *r) {
    spaces(r);
    const reply_match m = left(r) ? take(r, REPLY_DEEPSEEK_BEGIN) : REPLY_PARTLY;
    if (m == REPLY_PARTLY)
        return wait(r);
    r->place = AT_DEEPSEEK_NAME;
    return m == REPLY_YES ? true : give_up(r);
}

/* NAME, the separator, {...}; or a type, the separator, NAME, {...} in a fence. Read when the brace has come. */
static bool at_deepseek_name(qrl_reply *r) {
    const size_t start = r->cur;
    bool end, fence = false;
    size_t n = name_here(r, &end), name = r->cur;
    r->cur += n;
    reply_match m = !end ? REPLY_PARTLY : n ? take(r, REPLY_DEEPSEEK_SEP) : REPLY_NO;
    if (m == REPLY_YES && left(r) && *here(r) != '{') {
        name = r->cur;
        n = name_here(r, &end);
        r->cur += n;
        spaces(r);
        m = !end || !left(r) ? REPLY_PARTLY : n ? take(r, "```json") : REPLY_NO;
        fence = m == REPLY_YES;
    }
    spaces(r);
    if (m == REPLY_PARTLY || (m == REPLY_YES && !left(r))) {
        r->cur = r->last ? r->in.size : start;
        return wait(r);
    }
    if (m == REPLY_NO || *here(r) != '{')
        return give_up(r);
    begin_call(r, r->in.data + name, n);
    r->items = fence;
    return true;
}

/* The fence's end, and the call's. */
static bool at_deepseek_end(qrl_reply *r) {
    spaces(r);
    reply_match m = left(r) ? REPLY_YES : REPLY_PARTLY;
    if (m == REPLY_YES && r->items) {
        m = take(r, "```");
        r->items = r->items && m == REPLY_PARTLY;
        spaces(r);
    }
    if (m != REPLY_PARTLY)
        m = left(r) ? take(r, REPLY_DEEPSEEK_END) : REPLY_PARTLY;
    if (m == REPLY_PARTLY && !r->last)
        return false;
    return finish_call(r); /* its end may be missing */
}

/* ---- between calls ---- */

static bool leave(qrl_reply *r) {
    r->at = r->cur;
    r->state = REPLY_CONTENT;
    return true;
}

static bool at_between(qrl_reply *r) {
    spaces(r);
    if (!left(r))
        return r->last ? leave(r) : false;
    const char c = *here(r);
    const reply_body body = r->section->body;
    if (body == REPLY_DEEPSEEK) {
        const reply_match m = take(r, REPLY_DEEPSEEK_BEGIN);
        r->place = m == REPLY_YES ? AT_DEEPSEEK_NAME : r->place;
        if (m != REPLY_NO)
            return m == REPLY_YES;
    }
    const bool chained = body != REPLY_DEEPSEEK && body != REPLY_ESCAPED && body != REPLY_BARRED && !r->items;
    if (r->list && c == ',') {
        r->cur++;
        r->place = AT_VALUE;
        return true;
    }
    if (r->list && c == ']') {
        r->cur++;
        r->list = false;
        r->at = r->cur;
        return true;
    }
    if (chained && !r->list && (c == ';' || c == ',')) { /* Llama puts one between */
        const size_t next = reply_skip_space(r, r->cur + 1);
        if (next == r->in.size && !r->last)
            return false;
        if (next == r->in.size || r->in.data[next] != '{')
            return leave(r);
        r->cur = next;
        begin_call(r, NULL, 0);
        return true;
    }
    if (chained && !r->list && c == '{' && body != REPLY_NAMED) {
        begin_call(r, NULL, 0);
        return true;
    }
    const reply_match m = r->section->close ? take(r, r->section->close) : REPLY_NO;
    return m == REPLY_PARTLY ? false : leave(r);
}

bool reply_section_step(qrl_reply *r) {
    static bool (*const steps[])(qrl_reply *) = {[AT_MARK] = at_mark,
                                                 [AT_LEAD] = at_lead,
                                                 [AT_VALUE] = at_value,
                                                 [AT_NAME] = at_name,
                                                 [AT_NAMED] = at_named,
                                                 [AT_CALL] = at_call,
                                                 [AT_FUNCTION] = at_function,
                                                 [AT_PYTHON] = at_python,
                                                 [AT_FUNCTION_END] = at_function_end,
                                                 [AT_PARAMETER] = at_parameter,
                                                 [AT_BETWEEN] = at_between,
                                                 [AT_ITEM] = at_item,
                                                 [AT_ESCAPED] = at_escaped,
                                                 [AT_MEMBERS] = at_members,
                                                 [AT_DEEPSEEK] = at_deepseek,
                                                 [AT_DEEPSEEK_NAME] = at_deepseek_name,
                                                 [AT_DEEPSEEK_END] = at_deepseek_end};
    return steps[r->place](r);
}
