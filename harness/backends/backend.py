"""What a backend is: requests go in, samples come out.

A `Target` is known before anything is loaded: what the samples depend on (the point's address), the device,
the precision, the memory needed. A `Backend` is the loaded model, or the connection to a server. A missing
capability leaves columns empty in the tables; it is never imitated.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from harness.decoding.strategy import Strategy
from harness.decoding.streamed_text import Piece
from harness.errors import ConfigError
from harness.once import Once
from harness.progress import Progress
from harness.prompts.prompt import Prompt

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerBase

    from harness.backends.distributions import Distributions
    from harness.backends.drafting import Speculator
    from harness.config.point import Engine, Timing
    from harness.models.device import WorkerDevice
    from harness.models.model_files import ModelFiles
    from harness.models.model_info import ModelInfo
    from harness.models.precision import Precision
    from harness.store.records import PromptScores, Repetition, Sample


@dataclass(frozen=True)
class Capabilities:
    """What a backend returns beside the texts.

    Attributes:
        full_distribution: raw and warped distribution of every step (entropy, rank, kept, kept_mass).
        shared_noise: draws with the shared Gumbel noise, so that strategies are paired.
        teacher_forcing: `score` and `read_again`, how likely a given text is.
        hidden_states: `Backend.distributions`, what drift is computed with.
        token_ids: ids of the generated tokens.
        streaming: tokens come one by one, so that `time` knows the time to first token.
    """

    full_distribution: bool = False
    shared_noise: bool = False
    teacher_forcing: bool = False
    hidden_states: bool = False
    token_ids: bool = False
    streaming: bool = False


@dataclass(frozen=True)
class Request:
    """A sample to be generated: of which prompt, with which sample index, by which strategy.

    `second_prompt` are the ids of the prompt that guidance contrasts it with; empty where nothing does.
    """

    prompt: Prompt
    sample: int
    strategy: Strategy
    second_prompt: tuple[int, ...] = ()


@dataclass(frozen=True)
class Failure:
    """A request that failed by itself (its processors raised, or it alone does not fit the memory)."""

    error: Exception


@dataclass(frozen=True)
class Usage:
    """What generating took since the backend was configured.

    Attributes:
        tokens: generated, over all requests.
        rows: decoder rows computed; fewer than tokens where requests shared prefixes.
        batch_rows: requests decoded at once at most, in the end.
        captured: whether steps ran as CUDA graphs.
        peak_mb: most memory of the device; None where it is unknown.
    """

    tokens: int
    rows: int
    batch_rows: int
    captured: bool = False
    peak_mb: float | None = None


@dataclass(frozen=True)
class ReadAgain:
    """A generated output that was read once more in one pass, by itself.

    Attributes:
        columns: (T,) by column of tokens.parquet, of its tokens; NaN where a value is not known.
        chosen: (T,) ids that its strategy would choose with the same noise; None where reading is not enough.
    """

    columns: Mapping[str, np.ndarray]
    chosen: np.ndarray | None


@dataclass(frozen=True)
class TokenIds:
    """The special token ids that a strategy needs: what ends a sample, and what pads a batch."""

    eos: tuple[int, ...] = ()
    pad: int = 0


@dataclass(frozen=True)
class ChatEnd:
    """Ids that end a chat answer beside the model's own EOS, and what its users should know of them."""

    ids: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


class Backend(Protocol):
    """A loaded model, or a server that is ready to answer."""

    capabilities: Capabilities
    token_ids: TokenIds

    @property
    def warnings(self) -> tuple[str, ...]:
        """What users of the samples made so far should know, one line each."""

    @property
    def distributions(self) -> Distributions | None:
        """Distributions along given texts; None where the backend does not return them."""

    @property
    def speculator(self) -> Speculator | None:
        """Speculative decoding; None where the backend has none of its own."""

    def configure(self, engine: Engine) -> None:
        """Set how the next requests are run (threads, batch rows, compilation), and start a new `usage`."""

    def batch_size(self, requests: Sequence[Request]) -> int:
        """Return how many requests like these are decoded at once at most (1 or more)."""

    def generate(self, requests: Sequence[Request], progress: Progress) -> Iterator[Sample | Failure]:
        """Answer the requests, in their order; `progress` advances by generated tokens."""

    def usage(self) -> Usage:
        """Return what generating took since `configure`."""

    def score(self, prompts: Sequence[Prompt]) -> Iterator[PromptScores]:
        """Return how likely each prompt's tokens are, given those before; needs `teacher_forcing`."""

    def read_again(self, request: Request, generated: Sequence[int]) -> ReadAgain:
        """Return what is recorded of a request's output in one pass by itself; needs `teacher_forcing`."""

    def time(self, requests: Sequence[Request], timing: Timing, progress: Progress) -> list[Repetition]:
        """Time requests of one strategy as a deployed loop would run them; advances by repetitions."""

    def environment(self) -> dict[str, Any]:
        """Return versions, device and facts of the model, as JSON values."""

    def effective(self, strategy: Strategy) -> dict[str, Any]:
        """Return the settings that a strategy really ran with, as JSON values."""

    def close(self) -> None:
        """Free the model or the connection."""


@dataclass(frozen=True)
class TokenStep:
    """A token that was generated just now; columns of tokens.parquet, None where they are not known.

    Attributes:
        position: index of the token, from 0.
        pieces: text that is certain now, by the token that added it (`decoding.streamed_text`); all pieces of
            a sample join to its output.
        token_id: its id.
        token: the token's own text, of a special token its name.
        logprob, warped_logprob, rank, entropy, warped_entropy, kept, kept_mass: as in `store.records.Steps`.
    """

    position: int
    pieces: tuple[Piece, ...]
    token_id: int | None = None
    token: str | None = None
    logprob: float | None = None
    warped_logprob: float | None = None
    rank: int | None = None
    entropy: float | None = None
    warped_entropy: float | None = None
    kept: int | None = None
    kept_mass: float | None = None

    @property
    def text(self) -> str:
        """The text that is certain now."""
        return "".join(piece.text for piece in self.pieces)


OnToken = Callable[[TokenStep], None]
"""Called with each token as it comes; what it raises ends the sample, and is raised again."""


@runtime_checkable
class StreamingBackend(Protocol):
    """A backend whose tokens can be seen as they come."""

    def streams(self, strategy: Strategy) -> bool:
        """Return whether the tokens of a strategy come one by one; those of a search are known at its end."""

    def stream(self, request: Request, on_token: OnToken) -> Sample | Failure:
        """Answer one request of a strategy that streams; the sample is the one that `generate` returns."""


@dataclass(frozen=True)
class BatchEstimate:
    """How requests are expected to be batched: so many at once, each with a KV cache of up to these bytes."""

    rows: int
    cache_bytes: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Target(ABC):
    """What a point runs on, known before anything is loaded.

    Attributes:
        info: the model.
        device: kind of device (`cpu`, `cuda`, `mps`), or a server's address.
        facts: what samples depend on beside prompts, decoding and generation; part of the point's address.
        tokenizer_facts: fingerprint of the tokenizer, also part of the address; None without one.
        cache: settings of a quantized KV cache, part of the address; None for the model's default.
        notes: what users should know, one line each.
        precision: of the weights as they are run, comparable with `<`; None where it is unknown.
        checkpoint_precision: the highest precision that the checkpoint has; None where it is unknown.
        weight_bytes: estimated bytes of the weights as they are run; None where they are unknown.
        elsewhere: the device, where it is that of workers on other machines.
        devices: how many of these devices share the weights and the KV cache.
    """

    info: ModelInfo
    device: str
    facts: Mapping[str, Any]
    tokenizer_facts: str | None
    cache: Mapping[str, Any] | None
    notes: tuple[str, ...]
    precision: Precision | None
    checkpoint_precision: Precision | None
    weight_bytes: int | None
    elsewhere: WorkerDevice | None = None
    devices: int = 1

    remote: ClassVar[bool] = False
    """Whether a server answers, so that requests are counted, not loads."""

    same_batch_same_bits: ClassVar[bool] = False
    """Whether the samples of a batch are the same wherever it is decoded, if as many are decoded at once."""

    @abstractmethod
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """Return the model's tokenizer; None where the backend takes texts."""

    def chat_end(self) -> ChatEnd:
        """Return what ends a chat answer beside the EOS that the backend stops at anyway: nothing."""
        return ChatEnd()

    def amateur(self, name: str, once: Once, key: str = "decoding.amateur") -> Mapping[str, Any]:
        """Return `id` and `weights` (a fingerprint) of a second model, which `key` names.

        Raises:
            ConfigError: it cannot be used beside this one.
        """
        raise ConfigError.of(f"{key}={name}", "this backend has no second model; use backend=hf")

    def most_usd(self, prompt: Prompt, new_tokens: int) -> float | None:
        """Return an upper bound of what a request costs, in USD; None where it is unknown."""
        return None

    def checkpoints(self, second_models: Iterable[str] = ()) -> Sequence[ModelFiles]:
        """Return the checkpoints that opening it reads, with those of second models; none of a server's."""
        return ()

    @abstractmethod
    def shares_batches(self, effective: Mapping[str, Any]) -> bool:
        """Return whether a strategy may decode in one batch with others."""

    @abstractmethod
    def estimate(self, requests: Sequence[Request], rows: int | None) -> BatchEstimate:
        """Estimate how requests like these are batched; `rows` is the user's choice, if any."""

    @abstractmethod
    def available_bytes(self) -> int | None:
        """Return the memory that is free on the device; None where it is unknown."""

    @abstractmethod
    def open(self, progress: Progress) -> Backend:
        """Load the model, or connect to the server."""
