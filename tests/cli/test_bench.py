"""quarrel bench: figures that fit together."""

from statistics import median

from harness import CliTest, main


class Bench(CliTest):
    def test_json(self):
        shown = self.json("bench", "-p", "32", "-n", "8", "-d", "4", "-r", "3", "-t", "1", "--json")
        self.assertEqual(shown["threads"], 1)
        self.assertEqual(shown["depth"], 4)
        for name in ("int8_macs_per_second", "f32_macs_per_second", "read_bytes_per_second"):
            self.assertGreater(shown["limits"][name], 0)
        for name, tokens in (("prefill", 32), ("decode", 8)):
            series = shown[name]
            self.assertEqual(series["tokens"], tokens)
            self.assertLessEqual(series["min"], series["median"])
            self.assertLessEqual(series["median"], series["max"])
            runs = series["repetitions"]
            self.assertEqual(len(runs), 3)
            for run in runs:
                self.assertAlmostEqual(run["percent_of_limit"] / (100 * run["rate"] / run["limit"]), 1, delta=1e-3)
            for whole, part in (("median", "rate"), ("limit", "limit"), ("percent_of_limit", "percent_of_limit")):
                self.assertEqual(series[whole], median(run[part] for run in runs))

    def test_text(self):
        page = self.text("bench", "-p", "16", "-n", "4", "-r", "1")
        for word in ("model", "machine", "limits", "prefill", "decode", "% of the limit"):
            self.assertIn(word, page)
        self.assertNotIn("prefill", self.text("bench", "-p", "0", "-n", "4", "-r", "1"))

    def test_refused(self):
        self.fails("nothing to measure", "bench", "-p", "0", "-n", "0")
        self.fails("the model can take 1024", "bench", "-p", "1025")


if __name__ == "__main__":
    main()
