"""python examples/app.py photo.jpg "What is this?" http://127.0.0.1:8000/v1 MODEL: a question to a model, gated."""

import os
import sys

from safevlm_sdk import Runtime, SafeVLMError, load_engine

if len(sys.argv) != 5:
    sys.exit(__doc__)
image, question, base_url, model = sys.argv[1:]
try:
    engine = load_engine("openai", base_url, model=model, api_key=os.environ.get("OPENAI_API_KEY"), timeout=60)
    with Runtime.starter() as runtime:  # yours: Runtime.load("bundle/", digest="sha256:…")
        reply = runtime.guard(engine).generate(question, images=[image], max_tokens=300)
except SafeVLMError as problem:  # as when the model's server gave no answer
    sys.exit(f"no answer: {problem}")
print(reply.text)  # the model's answer; or the policy's refusal, and then the model was not asked
for found in reply.verdicts:
    print("gate:", f"failed, {found.error}:" if found.error else found.action.value, found.reason, file=sys.stderr)
sys.exit(any(found.error for found in reply.verdicts))  # no answer of a model, and no risk that was found
