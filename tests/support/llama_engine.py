"""Real llama.cpp with a tiny model of random weights, to stand behind the Ollama-shaped server.

What it says is nonsense; its tokens, counts and limits are llama.cpp's own.
"""

from __future__ import annotations

import http.client
import importlib
import json
import string
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WIDTH, LAYERS, HEADS = 32, 1, 2
TRAINED_CONTEXT = 4096


def make_tiny_model(file: Path, context: int = TRAINED_CONTEXT) -> None:
    """Write a model of a few hundred kilobytes whose tokens are bytes and printable characters."""
    gguf: Any = importlib.import_module("gguf")
    numpy: Any = importlib.import_module("numpy")
    normal, byte, control, unknown = (
        int(getattr(gguf.TokenType, kind)) for kind in ("NORMAL", "BYTE", "CONTROL", "UNKNOWN")
    )
    characters = ["\u2581", *(each for each in string.printable if not each.isspace())]
    vocabulary = [
        ("<unk>", unknown),
        ("<s>", control),
        ("</s>", control),
        *((f"<0x{number:02X}>", byte) for number in range(256)),
        *((each, normal) for each in characters),
    ]
    chance = numpy.random.default_rng(11)

    def tensor(*shape: int) -> Any:
        return (chance.standard_normal(shape) * 0.3).astype(numpy.float32)

    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_name("tiny")
    writer.add_context_length(context)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(2 * WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text.encode() for text, _ in vocabulary])
    writer.add_token_scores([-float(number) for number in range(len(vocabulary))])
    writer.add_token_types([kind for _, kind in vocabulary])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    output = tensor(len(vocabulary), WIDTH)
    # Only characters are ever said: no control token, no half of a letter, no end.
    output[[number for number, (_, kind) in enumerate(vocabulary) if kind != normal]] = 0
    writer.add_tensor("token_embd.weight", tensor(len(vocabulary), WIDTH))
    writer.add_tensor("output.weight", output)
    writer.add_tensor("output_norm.weight", numpy.ones(WIDTH, dtype=numpy.float32))
    for layer in range(LAYERS):
        prefix = f"blk.{layer}."
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{prefix}{name}.weight", numpy.ones(WIDTH, dtype=numpy.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"{prefix}{name}.weight", tensor(WIDTH, WIDTH))
        writer.add_tensor(f"{prefix}ffn_gate.weight", tensor(2 * WIDTH, WIDTH))
        writer.add_tensor(f"{prefix}ffn_up.weight", tensor(2 * WIDTH, WIDTH))
        writer.add_tensor(f"{prefix}ffn_down.weight", tensor(WIDTH, 2 * WIDTH))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class LlamaEngine:
    """llama.cpp in this process, behind its own HTTP server on loopback.

    Attributes:
        address: where that server is.
    """

    def __init__(self, model: Path, context: int = TRAINED_CONTEXT) -> None:
        xllamacpp: Any = importlib.import_module("xllamacpp")
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(model)
        parameters.n_ctx = context
        parameters.n_parallel = 1
        parameters.verbosity = 0
        # Threads that make a token together wait for each other by spinning, on a busy machine for long.
        parameters.cpuparams.n_threads = 1
        parameters.endpoint_metrics = True
        # What is read again is counted again, as clients are told.
        parameters.cache_prompt = False
        self._server = xllamacpp.Server(parameters)
        self.address: str = urlsplit(str(self._server.listening_address)).netloc

    def count(self, text: str) -> int:
        """Return how many tokens llama.cpp makes of a text."""
        with closing(http.client.HTTPConnection(self.address, timeout=60)) as connection:
            asked = {"content": text, "add_special": True}
            connection.request("POST", "/tokenize", json.dumps(asked))
            return len(json.loads(connection.getresponse().read())["tokens"])

    def counters(self) -> tuple[int, int]:
        """Return how many tokens it has read and made since it was started, by its own counters."""
        with closing(http.client.HTTPConnection(self.address, timeout=60)) as connection:
            connection.request("GET", "/metrics")
            lines = connection.getresponse().read().decode().splitlines()
        values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        read, made = (
            values[f"llamacpp:{name}_total"] for name in ("prompt_tokens", "tokens_predicted")
        )
        return int(read), int(made)

    def words(self, text: str, limit: int) -> Iterator[str]:
        """Have the model go on from a text, token by token; leaving the iterator stops it."""
        with closing(http.client.HTTPConnection(self.address, timeout=60)) as connection:
            asked = {"prompt": text, "n_predict": limit, "stream": True, "seed": 1}
            connection.request("POST", "/completion", json.dumps(asked))
            for line in connection.getresponse():
                if line.startswith(b"data: "):
                    piece = json.loads(line[6:])
                    if piece["stop"]:
                        return
                    yield piece["content"]
