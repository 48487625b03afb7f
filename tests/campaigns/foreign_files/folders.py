"""Whole folders: of models with their tokenizers, and of finished studies."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from campaigns.foreign_files.weights import contents, far, written
from campaigns.fuzzing import Reader
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import Placement, load
from personaprobe.models.tokens import pad
from personaprobe.studies.reports import page
from personaprobe.studies.reports.run_folder import remake_report, write_report
from studies.conftest import a_study
from tiny_trio import TinyTrio

QUESTION = "What is a quokka?"


def models(trio: TinyTrio) -> Reader:
    """A model with its tokenizer; what loads has the prompts and the logits that transformers gives it."""

    def read(folder: Path) -> LanguageModel:
        return load(str(folder), Placement("cpu", "float32"))

    def wrong(folder: Path, model: LanguageModel) -> str | None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        messages = [{"role": "user", "content": QUESTION}]
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        prompt = model.tokenizer.prompt(QUESTION)
        if list(prompt.ids) != list(ids):
            return f"the prompt is {list(prompt.ids)[:30]}, expected {list(ids)[:30]}"
        theirs = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, trust_remote_code=False
        ).eval()
        with torch.no_grad():
            logits = theirs(torch.tensor([ids])).logits[0]
        return far(model.network.logits(pad([prompt], 0), {})[0], logits)

    return Reader("model folder", contents(trio.base), read, wrong, share=0.1)


def studies() -> Reader:
    """A finished study; the page that is made from it again obeys no markup of its data."""

    def read(folder: Path) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(page, "plotly_script", lambda: "/* five megabytes */")
            [path] = remake_report(folder)
        return path.read_text()

    def wrong(_: Path, text: str) -> str | None:
        return "markup of the data is in the page" if "<script>alert(1)" in text or "\x1b" in text else None

    study = a_study()
    files = written(lambda folder: write_report(study.to_dict(), folder, study.answer_rows()))
    data = {name: content for name, content in files.items() if not name.endswith(".html")}
    return Reader("run folder", data, read, wrong, share=0.1)


def readers(trio: TinyTrio) -> list[Reader]:
    """Folders of models and of studies."""
    warnings.simplefilter("ignore")
    return [models(trio), studies()]
