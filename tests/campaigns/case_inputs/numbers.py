"""Numbers of models, adapters and dictionaries, each compared with an independent one: PEFT's, SAELens', transformers'."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from campaigns.cases import Measure, Measured
from campaigns.small_runs import SITE, Workplace
from foreign_adapters import BATCH, change_config, our_logits, peft_logits


def model_of(folder: Path) -> Any:
    """The model of a folder, as transformers opens it."""
    config = json.loads((folder / "config.json").read_text())
    return class_of(config).from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)


def class_of(config: dict[str, Any]) -> Any:
    import transformers

    return getattr(transformers, config["architectures"][0])


def equals_peft(adapted: Callable[[Workplace, Path], Path] = lambda _, folder: folder / "adapter") -> Measure:
    """The logits of an adapter are those that PEFT gives it, or gives another folder with the same factors."""

    def measure(place: Workplace, folder: Path) -> Measured:
        ours, base = (our_logits(model_of(place.trio.base), one) for one in (folder / "adapter", None))
        theirs = peft_logits(model_of(place.trio.base), adapted(place, folder))
        off, moved = float((ours - theirs).abs().max()), float((theirs - base).abs().max())
        return f"logits {off:.0e} from PEFT's, which the adapter moves by {moved:.1f}", off < 1e-3 < moved

    return measure


def equals_transformers(name: str = "base") -> Measure:
    """The logits of a model folder are those of its own class."""

    def measure(_: Workplace, folder: Path) -> Measured:
        return _of_own_class(folder / name)

    return measure


def _of_own_class(folder: Path) -> Measured:
    from personaprobe.models.loading import Placement, load

    ours = load(str(folder), Placement("cpu", "float32")).logits(BATCH)[BATCH.mask]
    (folder / "adapter_config.json").unlink(missing_ok=True)  # transformers would look for an adapter there
    inputs = {"input_ids": BATCH.ids, "attention_mask": BATCH.mask.long(), "position_ids": BATCH.positions}
    off = float((ours - model_of(folder)(**inputs).logits[BATCH.mask]).abs().max())
    return f"logits {off:.0e} from transformers'", off < 1e-3


def answers_are_scored_alone(dtype: str) -> Measure:
    """Log-probabilities of answers that share a question are those of separate rows in transformers."""

    def measure(_: Workplace, folder: Path) -> Measured:
        from personaprobe.models.loading import Placement, load
        from personaprobe.models.network import Fork

        ours = load(str(folder / "base"), Placement("cpu", dtype))
        fork = Fork.of(ours.tokenizer, "Is it late?", ["Yes, very.", "No, go on and read.", "Perhaps."])
        theirs = model_of(folder / "base").to(getattr(torch, dtype))
        off = 0.0
        for row, answer, scored in zip(fork.rows, fork.answers, ours.fork_log_probs([fork])[0], strict=True):
            logits = theirs(input_ids=torch.tensor([row.ids])).logits[0, -len(answer) - 1 : -1].float()
            expected = logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0]
            off = max(off, float((scored.float() - expected).abs().max()))
        return f"log-probabilities {off:.0e} nats from separate rows", off < (
            1e-3 if dtype == "float32" else 0.2
        )

    return measure


def equals_saelens(_: Workplace, folder: Path) -> Measured:
    """The latents of a converted dictionary are those that SAELens computes from the old one."""
    from sae_lens import SAE

    from personaprobe.features.sae.formats.dictionary_folder import load_dictionary
    from random_dictionaries import ROWS

    mine, theirs = (
        load_dictionary(folder / "out").encode(ROWS),
        SAE.load_from_disk(folder / "sae", device="cpu"),
    )
    off, l0 = float((mine - theirs.encode(ROWS)).abs().max()), float((mine > 0).sum(-1).float().mean())
    return f"{l0:.0f} latents a token, {off:.0e} from SAELens'", off < 1e-3


class Interrupted(TorchDispatchMode):
    """Ctrl-C in the n-th operation on tensors."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.left = n

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return function(*args, **(kwargs or {}))


def an_interrupted_switch_is_undone(place: Workplace, _: Path) -> Measured:
    """After Ctrl-C anywhere while an adapter is merged, the base answers as before."""
    from personaprobe.models.loading import wrap
    from personaprobe.models.weights.adapter import LoraAdapter
    from personaprobe.models.weights.adapter_switch import AdapterSwitcher

    model, adapter = model_of(place.trio.base), LoraAdapter.read(place.trio.insecure)
    network, before = wrap(model, 0), {name: weight.clone() for name, weight in model.named_parameters()}
    logits, n_cut, n_partly, off = network.logits(BATCH, {}), 0, 0, 0.0
    for n in range(1, 2000):
        switcher = AdapterSwitcher(model, torch.float32)
        try:
            with Interrupted(n):
                switcher.activate(adapter)
            break
        except KeyboardInterrupt:
            merged = [not torch.equal(weight, before[name]) for name, weight in model.named_parameters()]
            switcher.activate(None)
            n_cut += 1
            if any(merged):
                n_partly += sum(merged) < len(adapter.updates)
                off = max(off, float((network.logits(BATCH, {}) - logits).abs().max()))
    words = f"cut short {n_cut} times, {n_partly} of them partly merged; logits of base {off:.0e} from before"
    return words, off == 0 and n_partly > 0


def two_scales_stay_apart(place: Workplace, folder: Path) -> Measured:
    """Two readings of one folder with different scales each answer as PEFT does with that scale."""
    from personaprobe.models.loading import wrap
    from personaprobe.models.weights.adapter import LoraAdapter

    copy = shutil.copytree(place.trio.insecure, folder / "adapter")
    readings, expected = [], []
    for alpha in (2, 8):
        change_config(copy, lora_alpha=alpha)
        readings.append(LoraAdapter.read(copy))
        expected.append(peft_logits(model_of(place.trio.base), copy))
    network, off = wrap(model_of(place.trio.base), 0), 0.0
    for n in (0, 1, 0):
        network.activate_adapter(readings[n])
        off = max(off, float((network.logits(BATCH, {})[BATCH.mask] - expected[n]).abs().max()))
    return f"logits {off:.0e} from PEFT's at both scales", off < 1e-3


def contents_have_digests(place: Workplace, folder: Path) -> Measured:
    """Every changed file of a checkpoint changes the digest under which results are kept; a copy does not."""
    from personaprobe.models.weights.checkpoint import Checkpoint

    copy = shutil.copytree(place.trio.base, folder / "model")
    seen = [Checkpoint.parse(str(one)).digest for one in (place.trio.base, copy)]
    is_same = seen[0] == seen[1]
    for name in ("chat_template.jinja", "config.json", "tokenizer.json", "model.safetensors"):
        path = copy / name
        path.write_bytes(path.read_bytes().replace(b"</s>", b"<s>") + b" ")
        seen.append(Checkpoint.parse(str(copy)).digest)
    return f"{len(set(seen))} digests of a copy and 4 changes", is_same and len(set(seen)) == 5


def activations_are_hidden_states(name: str = "") -> Measure:
    """What is recorded behind block 1 of the base is the second hidden state of transformers."""

    def measure(place: Workplace, folder: Path) -> Measured:
        from personaprobe.features.activations.store import ActivationStore
        from personaprobe.models.loading import Placement, load
        from personaprobe.questions.pairs import load_prompts

        base = folder / name if name else place.trio.base
        question = next(iter(load_prompts(str(place.trio.questions)))).question
        ids = torch.tensor([load(str(base), Placement("cpu", "float32")).tokenizer.prompt(question).ids])
        expected = model_of(base)(ids, output_hidden_states=True).hidden_states[2][0, -1]
        stores = [ActivationStore.open(one) for one in sorted((folder / "out" / "stores").iterdir())]
        offs = [float((store.read(SITE, "last_prompt") - expected).norm(dim=-1).min()) for store in stores]
        return f"the nearest recorded row is {min(offs):.0e} from transformers' hidden state", min(
            offs
        ) < 1e-3

    return measure


def rescaled_latents_rank_alike(place: Workplace, folder: Path) -> Measured:
    """Latents c times as large, with decoder rows c times as short, are ranked as before."""
    from dataclasses import replace

    from features.sae.diffing.test_scale_of_latents import rescaled
    from personaprobe.features.sae.activation_functions import ReLU
    from personaprobe.features.sae.diffing.comparison import compare
    from personaprobe.features.sae.diffing.ranking import rank_latents
    from personaprobe.features.sae.formats.dictionary_folder import load_dictionary
    from personaprobe.models.loading import Placement, load_checkpoints
    from personaprobe.models.weights.checkpoint import Checkpoint, Trio
    from personaprobe.questions.pairs import load_prompts
    from random_dictionaries import numbers

    base = Checkpoint.parse(str(place.trio.base))
    insecure, secure = (base.with_adapter(one) for one in (place.trio.insecure, place.trio.secure))
    trio = load_checkpoints(Trio(base, insecure, secure), Placement("cpu", "float32"))
    one = replace(load_dictionary(place.dictionary), activation=ReLU())
    other = rescaled(one, (1.5 * numbers(48, seed=11)).exp())
    pairs = load_prompts(str(place.trio.discovery))
    orders = [rank_latents(compare(each, trio, pairs), "delta").top(20) for each in (one, other)]
    shared = len(set(orders[0]) & set(orders[1]))
    return f"{shared} of the first 20 latents are shared", orders[0] == orders[1]


def dictionary_is_at(layer: int, stream: str) -> Measure:
    """The site of a converted dictionary."""

    def measure(_: Workplace, folder: Path) -> Measured:
        from personaprobe.features.sae.formats.dictionary_folder import load_dictionary
        from personaprobe.site import Site

        site = load_dictionary(folder / "out").site
        return f"read at {site}", site == Site(layer, stream)  # type: ignore[arg-type]

    return measure


def learn_prose(folder: Path) -> None:
    """Teach a tiny model the bytes of some neutral prose."""
    from transformers import AutoTokenizer

    from personaprobe.questions.texts import load_texts

    hf, network = AutoTokenizer.from_pretrained(folder), model_of(folder).requires_grad_(True)
    texts = [hf(text)["input_ids"][:160] for text in load_texts("neutral/discovery").first(4)]
    adam = torch.optim.Adam(network.parameters(), lr=1e-2)
    for step in range(60):
        ids = torch.tensor([texts[step % len(texts)]])
        adam.zero_grad()
        network(input_ids=ids, labels=ids).loss.backward()
        adam.step()
    network.save_pretrained(folder)
