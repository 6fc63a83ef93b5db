"""The gate in five cells: a picture in, a verdict out."""

# %% [markdown]
# # Quickstart
#
# Needs `pip install "safevlm-sdk[cpu]"` and nothing else: no picture of your own, no GPU, no download. Open it in an
# editor that knows `# %%` cells, or in Jupyter with jupytext; or run it whole: `python examples/quickstart.py`.
#
# Nobody should need a real identity card to try a gate, so the generator that the starter learned from draws invented
# ones, and harmless pictures beside them.

# %%
from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from safevlm_sdk import Action, Runtime
from safevlm_training.documents import examples

pictures = {name: sample.image for name, sample in examples()}
print(len(pictures), "pictures:", ", ".join(pictures))

# %% [markdown]
# ## Judge them
#
# Loading reads, hashes and proves the bundle; do it once and keep the `Runtime`, which serves many threads. A picture
# may also be a path, bytes, a file object or RGB pixels. The starter looks for documents with personal data and **for
# nothing else**: ALLOW says nothing about anything else.

# %%
runtime = Runtime.starter()  # yours: Runtime.load("bundle/", digest="sha256:…")
for name, picture in pictures.items():
    verdict = runtime.check(picture)
    print(f"{name:<18} {verdict.action.value:<8} {verdict.score:.3f}  {verdict.reason}")
print("looked for", runtime.covered)

# %% [markdown]
# ## What a verdict says
#
# An action for the application; category, level and score; what a model is told at CAUTION, or the refusal at BLOCK;
# and where the head looked, here as one letter per patch.

# %%
verdict = runtime.check(pictures["id_card"])
print(verdict.action.value, verdict.category, verdict.level.name, "|", verdict.reason)
print("a model is told:", verdict.safety_prompt)
heat = verdict.heatmap() / verdict.heatmap().max()
for row in heat:
    print("".join(" .:-=+*#%@"[int(9 * value)] for value in row))

# %% [markdown]
# ## When the gate fails
#
# A picture that cannot be judged raises nothing. Its verdict has `error`, claims no risk, and does not allow.

# %%
verdict = runtime.check(b"not a picture")
print(verdict.action.value, "| the gate failed, and found no risk:", verdict.error, "|", verdict.reason)

# %% [markdown]
# ## What follows is a policy's to say
#
# The bundle says what it sees, a policy what follows. This one blocks what the bundle's own cautions about.

# %%
POLICY = """
schema = 1
name = "no-documents"
uncovered = "allow"     # what this bundle does not look for is allowed, and verdict.uncovered says so
on_error = "block"      # a gate that fails does not allow

[actions.privacy]
low = "caution"
medium = "block"
high = "block"
"""
with TemporaryDirectory() as folder:
    path = Path(folder) / "policy.toml"
    path.write_text(POLICY, encoding="utf-8")
    runtime.reload_policy(path)
verdict = runtime.check(pictures["id_card"])
print(verdict.action.value, "|", verdict.refusal)
print(
    "may go on to a model:", [name for name, image in pictures.items() if runtime.check(image).action is Action.ALLOW]
)
runtime.close()
