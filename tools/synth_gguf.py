#!/usr/bin/env python3
"""Writes a GGUF model with real shapes and formats and random weights, for measuring speed and memory.

    tools/synth_gguf.py OUT.gguf --shape granitehybrid-1b --type q4_k_m [--layers N] [--vocab N] [--ctx N] [--seed N]

Weights are scaled so that activations stay finite; what comes out of such a model means nothing.
Needs numpy alone.
"""
import argparse
import struct

import numpy as np

# name: (number in the file, values a block, bytes a block)
TYPES = {
    "f32": (0, 1, 4), "f16": (1, 1, 2), "bf16": (30, 1, 2), "q4_0": (2, 32, 18), "q4_1": (3, 32, 20), "q5_0": (6, 32, 22),
    "q5_1": (7, 32, 24), "q8_0": (8, 32, 34), "q2_k": (10, 256, 84), "q3_k": (11, 256, 110), "q4_k": (12, 256, 144),
    "q5_k": (13, 256, 176), "q6_k": (14, 256, 210), "iq4_nl": (20, 32, 18), "iq4_xs": (23, 256, 136), "mxfp4": (39, 32, 17),
}
# The rest of a block being random bits, its half floats: (byte, factor), so that values are of size 1 and about zero on average.
HALVES = {
    "q4_0": [(0, 1 / 4.6)], "q4_1": [(0, 1 / 4.6), (2, -7.5 / 4.6)], "q5_0": [(0, 1 / 9.2)], "q5_1": [(0, 1 / 9.2), (2, -15.5 / 9.2)],
    "q8_0": [(0, 1 / 74)], "q2_k": [(80, 1 / 13.9), (82, 1.5 / 13.9)], "q3_k": [(108, 1 / 43)], "q4_k": [(0, 1 / 240), (2, 7.5 / 240)],
    "q5_k": [(0, 1 / 480), (2, 15.5 / 480)], "q6_k": [(208, 1 / 1370)], "iq4_nl": [(0, 1 / 67)], "iq4_xs": [(0, 1 / 1246)],
}


def first(n, one, other):
    """The first layers in another type: n of them, or a part of all."""
    return lambda i, layers: one if i < (n if n >= 1 else int(layers * n)) else other


def more(one, other):
    """The first and the last eighth of the layers and every third between them in another type."""
    return lambda i, layers: one if i < layers // 8 or i >= 7 * layers // 8 or (i - layers // 8) % 3 == 2 else other


# A mix: type of most matrices, number of the mix, type of the output, of matrices that lose more. As src/quant/recipe.c has
# it for four query heads a head of keys and more, but mxfp4, which is for experts there: a model without has it everywhere
# here.
MIXES = {
    "q4_k_m": ("q4_k", 15, "q6_k", {"attn_v": more("q6_k", "q4_k"), "ffn_down": more("q6_k", "q4_k")}),
    "q5_k_m": ("q5_k", 17, "q6_k", {"attn_v": more("q6_k", "q5_k"), "ffn_down": more("q6_k", "q5_k")}),
    "q2_k": ("q2_k", 10, "q6_k", {"attn_v": "q4_k", "attn_output": "q3_k", "ffn_down": "q3_k"}),
    "q3_k_m": ("q3_k", 12, "q6_k", {"attn_v": first(2, "q5_k", "q4_k"), "attn_output": "q4_k",
                                    "ffn_down": first(1 / 16, "q5_k", "q4_k")}),
    "iq4_nl": ("iq4_nl", 25, "q6_k", {"attn_v": "q5_k", "ffn_down": first(1 / 8, "q5_k", "iq4_nl")}),
    "iq4_xs": ("iq4_xs", 30, "q6_k", {"attn_v": "q5_k", "ffn_down": first(1 / 8, "q5_k", "iq4_xs")}),
    "mxfp4": ("mxfp4", 38, "q8_0", {}), "q8_0": ("q8_0", 7, "q8_0", {}), "q4_0": ("q4_0", 2, "q8_0", {}),
    "q4_1": ("q4_1", 3, "q6_k", {}), "q5_0": ("q5_0", 8, "q6_k", {}), "q5_1": ("q5_1", 9, "q6_k", {}),
    "q6_k": ("q6_k", 18, "q6_k", {}), "f16": ("f16", 1, "f16", {}), "bf16": ("bf16", 32, "bf16", {}), "f32": ("f32", 0, "f32", {}),
}

# Layers: a letter each, repeated as often as needed: A attention and feed-forward, M Mamba-2 and feed-forward;
# of nemotron_h * attention, m Mamba-2, - feed-forward.
SHAPES = {
    "smollm2-135m": dict(arch="llama", layers=30, dim=576, ff=1536, heads=9, kv=3, vocab=49152, ctx=8192, base=1e5),
    "tinyllama": dict(arch="llama", layers=22, dim=2048, ff=5632, heads=32, kv=4, vocab=32000, ctx=2048, base=1e4),
    "llama3.2-1b": dict(arch="llama", layers=16, dim=2048, ff=8192, heads=32, kv=8, vocab=128256, ctx=131072, base=5e5),
    "llama3.2-3b": dict(arch="llama", layers=28, dim=3072, ff=8192, heads=24, kv=8, vocab=128256, ctx=131072, base=5e5),
    "llama3.1-8b": dict(arch="llama", layers=32, dim=4096, ff=14336, heads=32, kv=8, vocab=128256, ctx=131072, base=5e5),
    "moe-small": dict(arch="llama", layers=12, dim=1024, ff=1408, heads=16, kv=4, vocab=32000, ctx=8192, base=1e4,
                      experts=32, used=4),
    "mixtral-8x7b": dict(arch="llama", layers=32, dim=4096, ff=14336, heads=32, kv=8, vocab=32000, ctx=32768, base=1e6,
                         experts=8, used=2),
    # windows of 512 in five layers of six
    "gemma3-1b": dict(arch="gemma3", layers=26, dim=1152, ff=6912, heads=4, kv=1, head_dim=256, vocab=262144, ctx=32768,
                      base=1e6, window=512),
    # hybrids of Mamba-2 and attention, and dense models of equal width, depth and size beside them
    "granitehybrid-1b": dict(arch="granitehybrid", layers=40, dim=1536, ff=4096, heads=12, kv=4, vocab=49152, ctx=131072,
                             base=1e4, pattern="MMMMMAMMMM", inner=3072, state=128, ssm_heads=48, groups=1),
    "granitehybrid-1b-dense": dict(arch="llama", layers=40, dim=1536, ff=5888, heads=12, kv=4, vocab=49152, ctx=131072,
                                   base=1e4),
    "granitehybrid-3b": dict(arch="granitehybrid", layers=40, dim=2048, ff=8192, heads=32, kv=8, vocab=100352, ctx=131072,
                             base=1e4, pattern="MMMMMAMMMM", inner=4096, state=128, ssm_heads=64, groups=1),
    # one layer of each kind, for long runs under sanitizers
    "granitehybrid-tiny": dict(arch="granitehybrid", layers=2, dim=32, ff=32, heads=2, kv=1, vocab=288, ctx=256,
                               base=1e4, pattern="MA", inner=32, state=8, ssm_heads=2, groups=1),
    "nemotron_h-1.5b": dict(arch="nemotron_h", layers=40, dim=2048, ff=8192, heads=32, kv=8, head_dim=128, vocab=65536,
                          ctx=8192, base=1e4, pattern="m-m-m*m-m-", inner=4096, state=128, ssm_heads=64, groups=8),
    "nemotron_h-1.5b-dense": dict(arch="llama", layers=18, dim=2048, ff=8448, heads=32, kv=8, vocab=65536, ctx=8192,
                                base=1e4),
}


def half(x):
    return np.frombuffer(np.float16(x).tobytes(), np.uint8)


def random_blocks(rng, kind, n, std):
    """n weights of about N(0, std) in size, as bytes."""
    _, values, size = TYPES[kind]
    if values == 1:
        x = rng.standard_normal(n, dtype=np.float32) * np.float32(std)
        if kind == "f16":
            return x.astype("<f2").view(np.uint8)
        return (x.view(np.uint32) >> 16).astype("<u2").view(np.uint8) if kind == "bf16" else x.view(np.uint8)
    b = np.frombuffer(rng.bytes(n // values * size), np.uint8).reshape(-1, size).copy()
    for byte, factor in HALVES.get(kind, ()):
        b[:, byte:byte + 2] = half(factor * std)
    if kind == "mxfp4":  # a power of two, for values of up to 12
        b[:, 0] = 128 + round(np.log2(std / 5.9))
    return b.reshape(-1)


class Model:
    def __init__(self, shape, mix):
        self.s, self.mix, self.tensors = shape, MIXES[mix], []
        self.layers = 0

    def add(self, name, dims, kind, fill=0.02):
        """fill: a number is the size of random weights, a function makes them."""
        self.tensors.append((name, dims, kind, fill))

    def matrix(self, name, cols, rows, depth=None):
        """name: as in the file, without .weight."""
        usual, _, _, others = self.mix
        words = name.split(".")
        kind = others.get(words[-1].removesuffix("_exps"), usual)
        if callable(kind):
            kind = kind(int(words[1]), self.layers)
        if kind == "mxfp4" and "experts" in self.s and not depth or cols % TYPES[kind][1]:
            kind = "q8_0"
        self.add(name + ".weight", (cols, rows) + ((depth,) if depth else ()), kind, 1.0 / np.sqrt(cols))

    def vector(self, name, dims, fill):
        self.add(name, dims if isinstance(dims, tuple) else (dims,), "f32", fill)

    def norm(self, name, dims):
        self.vector(name, dims, lambda rng, n: np.ones(n, "<f4"))

    def attention(self, p):
        s = self.s
        head = s.get("head_dim", s["dim"] // s["heads"])
        self.matrix(p + "attn_q", s["dim"], s["heads"] * head)
        self.matrix(p + "attn_k", s["dim"], s["kv"] * head)
        self.matrix(p + "attn_v", s["dim"], s["kv"] * head)
        self.matrix(p + "attn_output", s["heads"] * head, s["dim"])
        if s["arch"] == "gemma3":
            self.norm(p + "attn_q_norm.weight", head)
            self.norm(p + "attn_k_norm.weight", head)
            self.norm(p + "post_attention_norm.weight", s["dim"])
            self.norm(p + "post_ffw_norm.weight", s["dim"])

    def mamba2(self, p):
        s = self.s
        cols = s["inner"] + 2 * s["groups"] * s["state"]
        self.matrix(p + "ssm_in", s["dim"], s["inner"] + cols + s["ssm_heads"])
        self.vector(p + "ssm_conv1d.weight", (4, cols), 0.3)
        self.vector(p + "ssm_conv1d.bias", cols, 0.1)
        self.vector(p + "ssm_dt.bias", s["ssm_heads"], lambda rng, n: rng.uniform(-5, -2, n).astype("<f4"))
        self.vector(p + "ssm_a", (1, s["ssm_heads"]), lambda rng, n: -rng.uniform(1, 16, n).astype("<f4"))
        self.vector(p + "ssm_d", (1, s["ssm_heads"]), lambda rng, n: np.ones(n, "<f4"))
        self.norm(p + "ssm_norm.weight", (s["inner"] // s["groups"], s["groups"]))
        self.matrix(p + "ssm_out", s["inner"], s["dim"])

    def feed_forward(self, p, gated):
        s = self.s
        n = s.get("experts")
        tail = "_exps" if n else ""
        if n:
            self.vector(p + "ffn_gate_inp.weight", (s["dim"], n), 0.02)
        if gated:
            self.matrix(p + "ffn_gate" + tail, s["dim"], s["ff"], n)
        self.matrix(p + "ffn_up" + tail, s["dim"], s["ff"], n)
        self.matrix(p + "ffn_down" + tail, s["ff"], s["dim"], n)

    def build(self, layers):
        s = self.s
        alone = s["arch"] == "nemotron_h"  # one block a layer
        self.layers = len(layers)
        self.matrix("token_embd", s["dim"], s["vocab"])
        for i, kind in enumerate(layers):
            p = f"blk.{i}."
            self.norm(p + "attn_norm.weight", s["dim"])
            if kind in "A*":
                self.attention(p)
            elif kind in "Mm":
                self.mamba2(p)
            if kind == "-" or not alone:
                if not alone:
                    self.norm(p + "ffn_norm.weight", s["dim"])
                self.feed_forward(p, not alone)
        self.norm("output_norm.weight", s["dim"])
        self.add("output.weight", (s["dim"], s["vocab"]), self.mix[2] if s["dim"] % 256 == 0 else "q8_0")


def metadata(s, layers, name, mix):
    u, f = np.uint32, np.float32
    a = s["arch"] + "."
    kv = [("general.architecture", s["arch"]), ("general.name", name), ("general.file_type", u(MIXES[mix][1])),
          ("general.quantization_version", u(2)), (a + "block_count", u(len(layers))),
          (a + "context_length", u(s["ctx"])), (a + "embedding_length", u(s["dim"])), (a + "vocab_size", u(s["vocab"])),
          (a + "attention.head_count", u(s["heads"])), (a + "rope.freq_base", f(s["base"])),
          (a + "attention.layer_norm_rms_epsilon", f(1e-5))]
    if s["arch"] == "nemotron_h":
        kv.append((a + "feed_forward_length", np.array([s["ff"] * (k == "-") for k in layers], np.int32)))
    else:
        kv.append((a + "feed_forward_length", u(s["ff"])))
    if "inner" in s:
        kv += [(a + "attention.head_count_kv", np.array([s["kv"] * (k in "A*") for k in layers], np.int32)),
               (a + "ssm.conv_kernel", u(4)), (a + "ssm.inner_size", u(s["inner"])),
               (a + "ssm.state_size", u(s["state"])), (a + "ssm.time_step_rank", u(s["ssm_heads"])),
               (a + "ssm.group_count", u(s["groups"]))]
    else:
        kv.append((a + "attention.head_count_kv", u(s["kv"])))
    if "head_dim" in s:
        kv += [(a + "attention.key_length", u(s["head_dim"])), (a + "attention.value_length", u(s["head_dim"]))]
    if "window" in s:
        kv.append((a + "attention.sliding_window", u(s["window"])))
    if "experts" in s:
        kv += [(a + "expert_count", u(s["experts"])), (a + "expert_used_count", u(s["used"]))]
    return kv + vocabulary(s["vocab"])


def vocabulary(n):
    """Special tokens, bytes, and words that are nobody's."""
    words = [f"\u2581w{i}" for i in range(n - 259)]
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)] + words
    scores = np.array([0.0] * 259 + [-float(i) for i in range(len(words))], np.float32)
    kinds = np.array([2, 3, 3] + [6] * 256 + [1] * len(words), np.int32)
    return [("tokenizer.ggml.model", "llama"), ("tokenizer.ggml.tokens", tokens), ("tokenizer.ggml.scores", scores),
            ("tokenizer.ggml.token_type", kinds), ("tokenizer.ggml.bos_token_id", np.uint32(1)),
            ("tokenizer.ggml.eos_token_id", np.uint32(2)), ("tokenizer.ggml.add_bos_token", True)]


def text(s):
    return struct.pack("<Q", len(s.encode())) + s.encode()


def value(v):
    if isinstance(v, bool):
        return struct.pack("<IB", 7, v)
    if isinstance(v, str):
        return struct.pack("<I", 8) + text(v)
    if isinstance(v, np.uint32):
        return struct.pack("<II", 4, int(v))
    if isinstance(v, np.float32):
        return struct.pack("<If", 6, float(v))
    if isinstance(v, list):
        return struct.pack("<IIQ", 9, 8, len(v)) + b"".join(map(text, v))
    return struct.pack("<IIQ", 9, 6 if v.dtype == np.float32 else 5, len(v)) + v.tobytes()


def write(path, kv, tensors, seed):
    rng = np.random.Generator(np.random.SFC64(seed))
    head = bytearray(struct.pack("<IIQQ", 0x46554747, 3, len(tensors), len(kv)))
    for key, v in kv:
        head += text(key) + value(v)
    offset, values = 0, 0
    for name, dims, kind, _ in tensors:
        number, block, size = TYPES[kind]
        head += text(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", d) for d in dims)
        head += struct.pack("<IQ", number, offset)
        offset += (int(np.prod(dims)) // block * size + 31) // 32 * 32
        values += int(np.prod(dims))
    with open(path, "wb") as f:
        f.write(head + b"\0" * (-len(head) % 32))
        for _, dims, kind, fill in tensors:
            left, written = int(np.prod(dims)), 0
            while left:
                n = min(left, 1 << 24)
                data = fill(rng, n).tobytes() if callable(fill) else random_blocks(rng, kind, n, fill).tobytes()
                f.write(data)
                left, written = left - n, written + len(data)
            f.write(b"\0" * (-written % 32))
    print(f"{path}: {len(tensors)} tensors, {values / 1e9:.2f} G parameters, {offset / 1e9:.2f} GB")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out")
    ap.add_argument("--shape", default="tinyllama", choices=SHAPES)
    ap.add_argument("--type", default="q4_k_m", choices=MIXES)
    ap.add_argument("--layers", type=int)
    ap.add_argument("--vocab", type=int)
    ap.add_argument("--ctx", type=int, help="context length that the file states")
    ap.add_argument("--seed", type=int, default=1)
    a = ap.parse_args()
    s = dict(SHAPES[a.shape])
    s["vocab"], s["ctx"] = a.vocab or s["vocab"], a.ctx or s["ctx"]
    n, pattern = a.layers or s["layers"], s.get("pattern", "A")
    layers = (pattern * n)[:n]
    model = Model(s, a.type)
    model.build(layers)
    write(a.out, metadata(s, layers, f"synthetic {a.shape} {a.type}", a.type), model.tensors, a.seed)


main()
