"""Keys, limits, pages of other people, metrics, logs, settings, TLS."""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import unittest

from harness import DEMO, QUARREL, ROOT, Server, ServerTest, wait_for

TEXT = "/v1/completions"
ONE = {"prompt": "x", "max_tokens": 1}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Files(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="quarrel-test-")
        self.addCleanup(scratch.cleanup)
        self.folder = scratch.name

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def read(self, path):
        with open(path, encoding="utf-8") as f:
            return f.read()

    def serve(self, *args, **options):
        server = Server(*args, **options)

        def stop():
            self.assertEqual(server.stop(), 0, server.said())

        self.addCleanup(stop)
        return server


class Keys(Files):
    def test_keys(self):
        path = self.write("keys", "# ours\nsecret-one alice\n\n  secret-two\n")
        server = self.serve("--api-keys", path)
        bearer = lambda key: {"Authorization": "Bearer " + key}
        for headers, status in (
            ({}, 401),
            (bearer("secret-on"), 401),
            (bearer("secret-one2"), 401),
            (bearer(""), 401),
            ({"Authorization": "Basic secret-one"}, 401),
            (bearer("secret-one"), 200),
            ({"Authorization": "bearer secret-two"}, 200),
            ({"x-api-key": "secret-two"}, 200),
        ):
            self.assertEqual(server.post(TEXT, ONE, headers=headers).status, status, headers)
        refused = server.post(TEXT, ONE)
        self.assertEqual(refused.json()["error"]["code"], "invalid_api_key")
        self.assertEqual(refused.headers["WWW-Authenticate"], "Bearer")
        self.assertEqual(server.post("/v1/messages", {}).json()["error"]["type"], "authentication_error")
        self.assertEqual(server.post(TEXT + "?api_key=secret-one", ONE).status, 401)
        self.assertEqual(server.get("/v1/models").status, 401)
        self.assertEqual(server.get("/metrics").status, 401)
        self.assertEqual(server.get("/requests").status, 401)
        self.assertEqual(server.request("DELETE", "/requests/x").status, 401)
        self.assertEqual(server.request("DELETE", "/requests/x", headers=bearer("secret-one")).status, 404)
        self.assertEqual(server.get("/health").status, 200)
        # another name is no danger where keys are asked for
        self.assertEqual(server.get("/v1/models", headers={"Host": "evil.example", **bearer("secret-one")}).status, 200)
        self.write("keys", "secret-three\n")
        server.process.send_signal(signal.SIGHUP)
        wait_for("the new key", lambda: server.get("/v1/models", headers=bearer("secret-three")).status == 200)
        self.assertEqual(server.get("/v1/models", headers=bearer("secret-one")).status, 401)
        self.write("keys", "short\n")
        server.process.send_signal(signal.SIGHUP)
        wait_for("the warning", lambda: "8 to 256" in server.said())
        self.assertEqual(server.get("/v1/models", headers=bearer("secret-three")).status, 200)

    def test_broken_files(self):
        for name, text, part in (("a", "", "no key"), ("b", "short", "8 to 256"), ("c", "x" * 300, "8 to 256")):
            with self.assertRaisesRegex(AssertionError, part):
                Server("--api-keys", self.write(name, text))
        with self.assertRaisesRegex(AssertionError, "cannot be opened"):
            Server("--api-keys", "/nosuch")

    def test_rate(self):
        server = self.serve("--api-keys", self.write("keys", "secret-one\nsecret-two\n"), "--rate-limit", "3")
        ask = lambda key: server.post(TEXT, ONE, headers={"Authorization": "Bearer secret-" + key})
        self.assertEqual([ask("one").status for _ in range(3)], [200] * 3)
        late = ask("one")
        self.assertEqual((late.status, late.headers["Retry-After"]), (429, "1"))
        self.assertEqual(late.json()["error"]["type"], "rate_limit_error")
        self.assertEqual(ask("two").status, 200)
        self.assertEqual(server.get("/v1/models", headers={"Authorization": "Bearer secret-one"}).status, 200)


class Browsers(ServerTest):
    args = ("--cors", "https://good.example", "--allow-host", "box.lan")

    def test_host(self):
        for host, status in (
            ("localhost", 200), ("127.0.0.1:9", 200), ("[::1]", 200), ("10.1.2.3", 200), ("BOX.lan:80", 200),
            ("evil.example", 403), ("localhost.evil.example", 403), ("127.0.0.1.nip.io", 403),
        ):
            self.assertEqual(self.server.get("/v1/models", headers={"Host": host}).status, status, host)

    def test_origin(self):
        own = f"http://127.0.0.1:{self.server.port}"
        for origin, status, allowed in (
            (own, 200, None), ("https://good.example", 200, "https://good.example"), ("https://evil.example", 403, None),
            ("null", 403, None), ("http://127.0.0.1:1", 403, None),
        ):
            answer = self.server.post(TEXT, ONE, headers={"Origin": origin})
            self.assertEqual(answer.status, status, origin)
            self.assertEqual(answer.headers.get("Access-Control-Allow-Origin"), allowed)
        asked = self.server.request("OPTIONS", TEXT, headers={"Origin": "https://good.example", "Access-Control-Request-Method": "POST"})
        self.assertEqual(asked.status, 204)
        self.assertIn("POST", asked.headers["Access-Control-Allow-Methods"])
        self.assertEqual(self.server.request("OPTIONS", TEXT, headers={"Origin": "https://evil.example"}).status, 403)
        self.assertEqual(self.server.request("OPTIONS", TEXT).status, 405)

    def test_pages(self):
        """A browser that has the pages is told so, and always asks."""
        tags = set()
        for path in ("/", "/monitor", "/chat.js", "/style.css"):
            whole = self.server.get(path)
            tag = whole.headers["ETag"]
            self.assertEqual((whole.status, whole.headers["Cache-Control"]), (200, "no-cache"))
            for known, status in ((tag, 304), ('"x", W/' + tag, 304), ("*", 304), ('"x"', 200), (tag[:-2] + '"', 200)):
                answer = self.server.get(path, headers={"If-None-Match": known})
                self.assertEqual((answer.status, answer.headers["ETag"]), (status, tag), known)
                self.assertEqual(answer.body, b"" if status == 304 else whole.body)
            head = self.server.request("HEAD", path)
            self.assertEqual((head.status, head.headers["ETag"], head.body), (200, tag, b""))
            tags.add(tag)
        self.assertEqual(len(tags), 4)
        self.assertEqual(self.server.get("/health").headers["Cache-Control"], "no-store")

    def test_warning(self):
        open_one = Server("--host", "0.0.0.0")
        self.assertEqual(open_one.stop(), 0)
        self.assertIn("without a key", open_one.said())
        self.assertEqual(self.server.said(), "")


class Metrics(ServerTest):
    def values(self):
        answer = self.server.get("/metrics")
        self.assertEqual(answer.status, 200)
        found, declared = {}, set()
        for line in answer.body.decode().splitlines():
            if line.startswith("# TYPE "):
                declared.add(line.split()[2])
            elif not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                self.assertNotIn(name, found)
                found[name] = float(value)
                base = name.split("{")[0]
                self.assertTrue(base in declared or base.rsplit("_", 1)[0] in declared, name)
        return found

    def test_counts(self):
        before = self.values()
        for _ in range(3):
            self.ok(self.server.post(TEXT, {"prompt": "Once", "max_tokens": 5, "ignore_eos": True}))
        self.refused("", self.server.post(TEXT, {}))
        for path in ("/nothing", "/requests/", "/monitor", "/"):
            self.server.get(path)
        after = self.values()
        grown = lambda name: after.get(name, 0) - before.get(name, 0)
        self.assertEqual(grown('quarrel_http_requests_total{path="/v1/completions",code="200"}'), 3)
        self.assertEqual(grown('quarrel_http_requests_total{path="/v1/completions",code="400"}'), 1)
        self.assertEqual(grown('quarrel_http_requests_total{path="none",code="404"}'), 2)
        self.assertEqual(grown('quarrel_http_requests_total{path="page",code="200"}'), 2)
        self.assertEqual(grown('quarrel_answers_total{outcome="length"}'), 3)
        self.assertEqual(grown("quarrel_generated_tokens_total"), 15)
        self.assertEqual(grown("quarrel_prompt_tokens_total"), 6)
        self.assertEqual(grown("quarrel_time_to_first_token_seconds_count"), 3)
        self.assertEqual(grown("quarrel_time_between_tokens_seconds_count"), 12)
        self.assertEqual(grown('quarrel_time_to_first_token_seconds_bucket{le="+Inf"}'), 3)
        self.assertEqual(grown('quarrel_engine_step_requests_count{model="tales"}'), 15)
        self.assertEqual(grown('quarrel_engine_step_requests_sum{model="tales"}'), 15)
        self.assertEqual(grown('quarrel_engine_step_requests_bucket{model="tales",le="1"}'), 15)
        self.assertGreater(grown('quarrel_engine_decode_seconds_total{model="tales"}'), 0)
        self.assertGreater(grown('quarrel_engine_decode_read_bytes_total{model="tales"}'), 12 * 1e6)
        self.assertGreater(after['quarrel_generated_tokens_per_second{model="tales"}'], 0)
        self.assertGreater(after['quarrel_model_memory_bytes{model="tales",part="weights"}'], 1e6)
        self.assertEqual(after["quarrel_models_memory_limit_bytes"], 0)
        self.assertEqual(after['quarrel_model_loaded{model="tales"}'], 1)
        self.assertGreater(after["quarrel_resident_memory_bytes"], 1e6)

    def test_bandwidth(self):
        """The limit is measured when nothing runs; then decoding is a share of it."""
        limit = lambda: self.values()["quarrel_read_bandwidth_limit_bytes"]
        wait_for("the measure", lambda: limit() > 1e8, 120)
        self.ok(self.server.post(TEXT, {"prompt": "Once", "max_tokens": 50, "ignore_eos": True}))
        values = self.values()
        ratio = values['quarrel_read_bandwidth_ratio{model="tales"}']
        self.assertGreater(ratio, 0)

    def test_experts(self):
        model = os.path.join(ROOT, "tests", "golden", "mini", "qwen3moe.gguf")
        server = Server(model=model)
        self.addCleanup(server.stop)
        self.assertEqual(server.post(TEXT, {"prompt": [1, 2, 3, 4], "max_tokens": 1}).status, 200)
        lines = lambda: [l for l in server.get("/metrics").body.decode().splitlines() if l.startswith("quarrel_expert_")]
        chosen = lambda: sum(float(l.split()[-1]) for l in lines() if "choices" in l)
        wait_for("the experts", lambda: chosen() > 0)
        self.assertEqual(chosen() % 4, 0)
        self.assertTrue(all('model="qwen3moe"' in l for l in lines()))
        (share,) = [float(l.split()[-1]) for l in lines() if "busiest" in l]
        self.assertTrue(0 < share <= 1, share)

    def test_conventions(self):
        """Of Prometheus, as far as they can be checked without promtool; few series whatever is asked for."""
        for i in range(50):
            self.server.get(f"/unknown/{i}")
            self.server.request("DELETE", f"/requests/{i}")
        text = self.server.get("/metrics").body.decode()
        kinds = dict(line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE "))
        helps = {line.split()[2] for line in text.splitlines() if line.startswith("# HELP ") and len(line.split()) > 3}
        self.assertEqual(set(kinds), helps)
        for name, kind in kinds.items():
            self.assertRegex(name, r"^quarrel_[a-z][a-z0-9_]*[a-z0-9]$")
            self.assertEqual(name.endswith("_total"), kind == "counter", name)
            self.assertNotRegex(name, r"_(count|sum|bucket|milliseconds|ms|percent|mib|gib)(_|$)")
        self.assertLess(len([l for l in text.splitlines() if not l.startswith("#")]), 300)

    @unittest.skipUnless(shutil.which("promtool"), "skipped: there is no promtool")
    def test_promtool(self):
        done = subprocess.run(["promtool", "check", "metrics"], input=self.server.get("/metrics").body, capture_output=True, check=False)
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, b""))

    def test_trace(self):
        answer = self.server.get("/health", headers={"traceparent": TRACE})
        out = answer.headers["traceparent"]
        self.assertEqual((out[:36], out[-3:], len(out)), (TRACE[:36], TRACE[-3:], 55))
        self.assertNotEqual(out, TRACE)
        for wrong in ("", "x", TRACE.upper()):
            self.assertNotIn("traceparent", self.server.get("/health", headers={"traceparent": wrong}).headers)
        ids = {self.server.get("/health").headers["X-Request-Id"] for _ in range(20)}
        self.assertEqual(len(ids), 20)

    def test_openapi(self):
        described = self.ok(self.server.get("/openapi.json"))
        self.assertEqual(described["openapi"], "3.1.0")
        schemas = described["components"]["schemas"]

        def follow(value):
            if isinstance(value, dict):
                if "$ref" in value:
                    self.assertIn(value["$ref"].rsplit("/", 1)[1], schemas)
                for v in value.values():
                    follow(v)
            elif isinstance(value, list):
                for v in value:
                    follow(v)

        follow(described)
        self.assertEqual(schemas["ChatRequest"]["required"], ["messages"])
        self.assertEqual(schemas["ChatRequest"]["properties"]["temperature"]["maximum"], 2)
        self.assertIn("post", described["paths"]["/v1/chat/completions"])
        self.assertIn("get", described["paths"]["/requests"])
        cancel = described["paths"]["/requests/{id}"]["delete"]
        self.assertEqual(cancel["parameters"][0]["name"], "id")

    def test_document(self):
        made = subprocess.run([QUARREL, "serve", "--document"], stdout=subprocess.PIPE, check=True).stdout.decode()
        with open(os.path.join(ROOT, "docs", "http.md"), encoding="utf-8") as f:
            self.assertEqual(made, f.read(), "run `make docs`")


class Running(ServerTest):
    """The list of running requests, and their end by hand."""

    args = ("--parallel", "1")
    LONG = {"prompt": "Once", "max_tokens": 4000, "ignore_eos": True}

    def list(self):
        return self.ok(self.server.get("/requests"))["data"]

    def cancel(self, identity):
        return self.server.request("DELETE", "/requests/" + identity)

    def begin(self, body):
        """A connection on which the request was sent."""
        connection = self.server.connect()
        self.addCleanup(connection.close)
        connection.request("POST", TEXT, json.dumps(body))
        return connection

    def test_list(self):
        wait_for("an empty list", lambda: self.list() == [])
        first = self.begin({**self.LONG, "stream": True}).getresponse()
        first.read(100)
        second = self.begin(self.LONG)
        wait_for("both", lambda: len(self.list()) == 2)
        decoding, waiting = self.list()
        self.assertEqual(decoding["id"], first.headers["X-Request-Id"])
        self.assertEqual((decoding["state"], waiting["state"]), ("decode", "queued"))
        self.assertEqual((decoding["stream"], waiting["stream"]), (True, False))
        self.assertEqual((decoding["path"], decoding["model"], decoding["key"]), (TEXT, "tales", None))
        self.assertEqual((decoding["answers"], decoding["prompt_tokens"], decoding["computed_tokens"]), (1, 2, 2))
        self.assertEqual((waiting["prompt_tokens"], waiting["generated_tokens"]), (2, 0))
        self.assertGreater(decoding["generated_tokens"], 0)
        self.assertGreater(decoding["age_seconds"], waiting["age_seconds"])
        # one that waits gets a proper answer
        self.assertEqual(self.ok(self.cancel(waiting["id"])), {"id": waiting["id"], "object": "request", "cancelled": True})
        answer = second.getresponse()
        self.assertEqual(answer.status, 403)
        self.assertEqual(json.loads(answer.read())["error"]["code"], "request_cancelled")
        # the end of one that streams is told in the stream
        self.ok(self.cancel(decoding["id"]))
        self.assertIn(b'"code":"request_cancelled"', first.read().strip().splitlines()[-1])
        wait_for("an empty list", lambda: self.list() == [])

    def test_nothing_there(self):
        for identity in ("req-0", "x" * 200):
            self.assertEqual(self.refused("/requests", self.cancel(identity), 404)["code"], "request_not_found")
        self.assertEqual(self.cancel("x" * 300).status, 404)
        self.assertEqual(self.server.get("/requests/x").status, 405)
        self.assertEqual(self.server.request("DELETE", "/requests").status, 405)

    def test_embeddings(self):
        """Between the groups of inputs that are computed together."""
        connection = self.server.connect()
        self.addCleanup(connection.close)
        connection.request("POST", "/v1/embeddings", json.dumps({"input": ["word " * 400] * 2000}))
        wait_for("it", lambda: [r["state"] for r in self.list()] == ["prefill"])
        self.ok(self.cancel(self.list()[0]["id"]))
        answer = connection.getresponse()
        self.assertEqual((answer.status, json.loads(answer.read())["error"]["code"]), (403, "request_cancelled"))


class Settings(Files):
    def test_log(self):
        path = os.path.join(self.folder, "log")
        server = self.serve("--log", path)
        lines = lambda n: wait_for("the lines", lambda: self.read(path).count("\n") == n)
        # a line is written after its answer: the next request may be faster
        server.post(TEXT, ONE, headers={"traceparent": TRACE})
        lines(4)
        server.post(TEXT, {"prompt": 3})
        lines(5)
        server.get('/no"thing')
        lines(6)
        os.rename(path, path + ".1")
        server.process.send_signal(signal.SIGHUP)
        wait_for("the new file", lambda: os.path.exists(path))
        server.get("/health")
        wait_for("its line", lambda: "/health" in self.read(path))
        lines = [json.loads(line) for line in self.read(path + ".1").splitlines()]
        self.assertEqual([line["event"] for line in lines], ["loading", "loaded", "started"] + ["request"] * 3)
        first, wrong, nothing = lines[3:]
        self.assertEqual((first["status"], first["path"], first["model"]), (200, TEXT, "tales"))
        self.assertEqual(first["completion_tokens"], 1)
        self.assertEqual(first["traceparent"][:36], TRACE[:36])
        self.assertIn("prompt", wrong["problem"])
        self.assertEqual(nothing["status"], 404)

    def test_config(self):
        text = f"models:\n  - path: {DEMO}\n    parallel: 2\n    ctx: 256\n  - name: second\n    path: {DEMO}\n    kv-type: q8_0\n    lazy: true\n"
        path = self.write("models.yaml", text)
        server = self.serve("--config", path, model=None)
        models = lambda: {m["id"]: m["meta"] for m in server.get("/v1/models").json()["data"]}
        self.assertEqual(models()["tales"]["n_ctx"], 256)
        self.assertFalse(models()["second"]["loaded"])
        # a reload does not drop a stream
        connection = server.connect()
        connection.request("POST", TEXT, json.dumps({"prompt": "Once", "max_tokens": 200, "ignore_eos": True, "stream": True, "model": "tales"}))
        answer = connection.getresponse()
        first = answer.read(100)
        self.write("models.yaml", text.replace("name: second", "name: third").replace("ctx: 256", "ctx: 512"))
        server.process.send_signal(signal.SIGHUP)
        wait_for("the new settings", lambda: set(models()) == {"tales", "third"})
        self.assertTrue((first + answer.read()).endswith(b"data: [DONE]\n\n"))
        connection.close()
        self.assertEqual(server.post(TEXT, {**ONE, "model": "tales"}).status, 200)
        self.assertEqual(models()["tales"]["n_ctx"], 512)
        self.assertEqual(server.post(TEXT, {**ONE, "model": "third"}).status, 200)
        self.assertEqual(server.post(TEXT, {**ONE, "model": "second"}).status, 404)
        self.write("models.yaml", "models: []\n")
        server.process.send_signal(signal.SIGHUP)
        wait_for("the warning", lambda: "list of models" in server.said())
        self.assertEqual(set(models()), {"tales", "third"})

    PROMPT = {"prompt": "Once upon a time there was a fox. " * 12, "max_tokens": 8, "temperature": 0}

    def test_cache_file(self):
        """What one run has computed, the next one finds; so does a model that was unloaded."""
        path = os.path.join(self.folder, "cache")
        found = []
        for _ in range(2):
            server = Server("--cache-file", path, "--unload-after", "1")
            for _ in range(2):
                answer = server.post(TEXT, self.PROMPT).json()
                found.append((answer["choices"][0]["text"], answer["usage"]["prompt_tokens_details"]["cached_tokens"] > 0))
                wait_for("the model to go", lambda: not server.get("/v1/models").json()["data"][0]["meta"]["loaded"])
            self.assertEqual((server.stop(), server.said()), (0, ""))
            self.assertGreater(os.path.getsize(path), 1000)
        self.assertEqual([cached for _, cached in found], [False, True, True, True])
        self.assertEqual(len({text for text, _ in found}), 1)
        with self.assertRaisesRegex(AssertionError, "another model, other cache types"):
            Server("--cache-file", path, "--kv-type", "q8_0")
        with self.assertRaisesRegex(AssertionError, "no cache file"):
            Server("--cache-file", self.write("text", "x" * 1000))
        with self.assertRaisesRegex(AssertionError, "a and b have the same cache file"):
            Server("--cache-file", path, "-m", "b=" + DEMO, model="a=" + DEMO)
        broken = os.path.join(self.folder, "nosuch", "cache")
        server = Server("--cache-file", broken)
        self.assertEqual(server.stop(), 0)
        self.assertIn("nosuch", server.said())

    def test_guesses(self):
        """A draft model and look-up: the same answers, and their costs counted."""
        plain, *others = [
            self.serve(*args) for args in ((), ("--draft", DEMO, "--draft-max", "4"), ("--lookup", "8"))
        ]
        wanted = plain.post(TEXT, self.PROMPT).json()["choices"]
        value = lambda server, name: float(next(l for l in server.get("/metrics").body.decode().splitlines() if l.startswith(name)).split()[-1])
        for server in others:
            self.assertEqual(server.post(TEXT, self.PROMPT).json()["choices"], wanted)
        part = 'quarrel_model_memory_bytes{model="tales",part="draft"}'
        self.assertEqual(value(plain, part), 0)
        self.assertGreater(value(others[0], part), 1e6)
        text = f"models:\n  - path: {DEMO}\n    draft: {DEMO}\n    draft-max: 2\n    cache-file: {self.folder}/c\n    kv-type: f32\n"
        server = self.serve("--config", self.write("models.yaml", text), model=None)
        self.assertEqual(server.post(TEXT, self.PROMPT).status, 200)
        kv = 'quarrel_model_memory_bytes{model="tales",part="kv"}'
        self.assertEqual(value(server, kv), 2 * value(plain, kv))
        with self.assertRaisesRegex(AssertionError, "nosuch"):
            Server("--draft", "/nosuch.gguf")

    def test_memory(self):
        """Idle models make way for others; what cannot fit is refused, caches and guessing models counted."""
        server = self.serve("--memory", "100M", "--lazy", "-m", "b=" + DEMO, model="a=" + DEMO)
        loaded = lambda: [m["id"] for m in server.get("/v1/models").json()["data"] if m["meta"]["loaded"]]
        for name in ("a", "b", "a"):
            self.assertEqual(server.post(TEXT, {**ONE, "model": name}).status, 200)
            self.assertEqual(loaded(), [name])
        for more in (("--draft", DEMO), ("--parallel", "32")):
            with self.assertRaisesRegex(AssertionError, r"tales needs about .* MiB, .* \(--memory\)"):
                Server("--memory", "100M", *more)

    def test_names(self):
        """Models of the models folder, by name."""
        shutil.copy(DEMO, os.path.join(self.folder, "mine.gguf"))
        server = self.serve(model="mine", env={"QUARREL_MODELS": self.folder})
        self.assertEqual([m["id"] for m in server.get("/v1/models").json()["data"]], ["mine"])
        self.assertEqual(server.post(TEXT, {**ONE, "model": "mine"}).status, 200)
        with self.assertRaisesRegex(AssertionError, "nosuch"):
            Server(model="nosuch", env={"QUARREL_MODELS": self.folder})

    def test_broken_configs(self):
        for text, part in (
            ("", "mapping"),
            ("models: {", "line"),
            ("model: x", 'no setting "model"'),
            ("models:\n  - name: x\n", "path must be"),
            ("models:\n  - path: /nosuch.gguf\n", "/nosuch.gguf"),
            (f"models:\n  - path: {DEMO}\n    wings: 2\n", 'no setting "wings"'),
            (f"models:\n  - path: {DEMO}\n    parallel: many\n", "line 3: parallel"),
            (f"models:\n  - path: {DEMO}\n    kv-type: q3\n", "kv-type must be"),
            (f"models:\n  - path: {DEMO}\n  - path: {DEMO}\n", "two models are called tales"),
        ):
            with self.assertRaisesRegex(AssertionError, part):
                Server("--config", self.write("broken.yaml", text), model=None)

    def test_deadline(self):
        server = self.serve("--deadline", "0.001")
        answer = server.post(TEXT, {"prompt": "word " * 400, "max_tokens": 500})
        self.assertEqual(answer.status, 504, answer.body)

    @unittest.skipUnless(shutil.which("openssl"), "skipped: there is no openssl to make a certificate with")
    def test_tls(self):
        cert, key = os.path.join(self.folder, "cert.pem"), os.path.join(self.folder, "key.pem")

        def make():
            """Another certificate; as the connections see it."""
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost"],
                check=True, stderr=subprocess.DEVNULL,
            )
            return ssl.PEM_cert_to_DER_cert(self.read(cert))

        first = make()
        server = self.serve("--tls-cert", cert, "--tls-key", key)
        self.assertEqual(server.scheme, "https")
        context = ssl.create_default_context(cafile=cert)
        context.check_hostname = False
        with socket.create_connection(("127.0.0.1", server.port)) as plain, context.wrap_socket(plain) as s:
            body = json.dumps({**ONE, "stream": True}).encode()
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            said = b""
            while piece := s.recv(4096):
                said += piece
        self.assertIn(b"data: [DONE]", said)
        # another certificate, while a stream is open
        open_context = ssl._create_unverified_context()

        def connect():
            return open_context.wrap_socket(socket.create_connection(("127.0.0.1", server.port), timeout=60))

        def shown():
            with connect() as s:
                return s.getpeercert(binary_form=True)

        self.assertEqual(shown(), first)
        with connect() as s:
            body = json.dumps({"prompt": "x", "max_tokens": 900, "ignore_eos": True, "stream": True}).encode()
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            said = s.recv(4096)
            second = make()
            server.process.send_signal(signal.SIGHUP)
            wait_for("the new certificate", lambda: shown() == second)
            while not said.endswith(b"0\r\n\r\n"):
                piece = s.recv(4096)
                self.assertTrue(piece, "the stream was cut")
                said += piece
            self.assertIn(b"data: [DONE]", said)
            s.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")  # the connection goes on
            self.assertIn(b"200 OK", s.recv(4096))
        self.write("cert.pem", "no certificate")
        server.process.send_signal(signal.SIGHUP)
        wait_for("the warning", lambda: "do not fit together" in server.said())
        self.assertEqual(shown(), second)
        with self.assertRaisesRegex(AssertionError, "both"):
            Server("--tls-cert", cert)
        with self.assertRaisesRegex(AssertionError, "certificate"):
            Server("--tls-cert", key, "--tls-key", cert)


if __name__ == "__main__":
    unittest.main()
