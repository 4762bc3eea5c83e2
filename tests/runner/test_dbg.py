def test_dbg(project, monkeypatch):
    import time
    project.suite()
    options = ("small", "--method", "wide", "--seeds", "1", "--jobs", "1", "--device", "cpu", "--quiet")
    answer = project("run", *options, "--wandb", "offline")
    fs = list((project.results / "wandb").rglob("*.wandb"))
    def s(): return [(str(f)[-60:], f.stat().st_size, b"small-cpu-leaderboard" in f.read_bytes(), b"seed-0" in f.read_bytes()) for f in fs]
    out=[answer.err, s()]
    time.sleep(3)
    out.append(s())
    log = "\n".join(p.read_text()[-1500:] for p in (project.results/"wandb").rglob("debug-core.log"))
    raise AssertionError("\n".join(map(str,out))+log)
