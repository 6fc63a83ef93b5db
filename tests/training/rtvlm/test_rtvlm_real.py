"""The whole way with real models, random and tiny: a server of transformers, and a SafeVLM in this process."""

from __future__ import annotations

import pytest
from PIL import Image
from typer.testing import CliRunner

from safevlm_sdk.command.app import app
from safevlm_sdk.errors import DataError
from safevlm_training.rtvlm.answering import Answer
from safevlm_training.rtvlm.journal import read_journal
from safevlm_training.rtvlm.judging import Score
from safevlm_training.rtvlm.pictures import load_picture
from safevlm_training.rtvlm.reading import read_questions
from safevlm_training.vlm.proof_model import proof_model
from safevlm_training.vlm.safe_vlm import SafeVLM
from safevlm_training.vlm.tiny import tiny_vlm


@pytest.mark.slow
def test_a_real_server_answers_and_judges(published, llava, address, tmp_path):
    def rtvlm(step, *options):
        server = () if step == "table" else ("--url", address, "--model", llava, "--timeout", 300, "--concurrency", 1)
        command = ["rtvlm", step, "--data", published, "--run", tmp_path, *server, *options]
        return CliRunner().invoke(app, [str(part) for part in command])

    limits = ["--limit", 1, "--max-tokens", 4, "--paste-pairs"]
    done = rtvlm("answer", *limits)
    assert (done.exit_code, done.output.split(":")[0]) == (0, "10 answered, 0 errors, 0 open")
    _, answers = read_journal(tmp_path / "answers.jsonl", Answer)
    assert len(answers) == 10
    assert len({row.answer for row in answers.values()}) > 1
    scored = rtvlm("judge", "--max-tokens", 2, "--attempts", 2)
    assert scored.exit_code == 1
    assert "0 scored, 10 errors, 0 open" in scored.output
    _, scores = read_journal(tmp_path / "scores.jsonl", Score)
    assert all(len(row.unreadable) == 2 for row in scores.values())  # random weights give no number
    assert "10 have an error in its place" in rtvlm("table").output


def test_a_checkpoint_answers_in_this_process(published, llava, tmp_path):
    model, processor = tiny_vlm("llava")
    proof_model(model, processor, str(llava)).save_pretrained(tmp_path / "checkpoint")

    def answer(*options):
        command = ["rtvlm", "answer", "--data", published, "--run", tmp_path, "--checkpoint", tmp_path / "checkpoint"]
        return CliRunner().invoke(app, [str(part) for part in (*command, "--max-tokens", 4, *options)])

    done = answer("--task", "order_correct_first", "--task", "politics")
    assert (done.exit_code, done.output.split(":")[0]) == (0, "3 answered, 0 errors, 0 open")
    heading, rows = read_journal(tmp_path / "answers.jsonl", Answer)
    assert (heading["model"], heading["prompt"]) == ("checkpoint", "none")
    loaded = SafeVLM.from_pretrained(tmp_path / "checkpoint")
    for question in read_questions(published):
        if question.id in rows:
            images = [Image.fromarray(load_picture(picture)) for picture in question.pictures]
            content = [*({"type": "image"} for _ in images), {"type": "text", "text": question.text}]
            asked = [[{"role": "user", "content": content}]]
            (expected,) = loaded.generate(asked, [images], do_sample=False, max_new_tokens=4)
            assert rows[question.id].answer == expected
    refused = answer("--prompt", "tiered").exception
    assert isinstance(refused, DataError)
    assert "prompt was 'none', is now 'tiered'" in str(refused)
