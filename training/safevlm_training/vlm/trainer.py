"""Hugging Face's Trainer, with this project's order of rows, learning rate, loss and idea of the best epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, Subset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from safevlm_sdk.errors import TrainingError
from safevlm_training.fit import MAX_GRAD_NORM, Labelled, epoch_order, learning_rate, merit
from safevlm_training.progress import Progress
from safevlm_training.recipe import Recipe
from safevlm_training.vlm.collate import FILLER, Collator, Rows
from safevlm_training.vlm.objective import Objective
from safevlm_training.vlm.run_state import (
    Entry,
    Run,
    complete_checkpoint,
    keep_checkpoints,
    load_trained,
    read_run,
    save_trained,
)

SHOWN_PER_EPOCH = 10


class EpochOrder(Sampler[int]):
    """The rows of each epoch as `fit` draws them; its epochs count from 1, the Trainer's from 0.

    Args:
        data: The rows.
        seed: Of the order.
        multiple: Rows that count for nothing fill the epoch up to a multiple of this.
    """

    def __init__(self, data: Labelled, seed: int, multiple: int) -> None:
        self.data = data
        self.seed = seed
        self.fillers = -len(data.items) % multiple
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.data.items) + self.fillers

    def __iter__(self) -> Iterator[int]:
        yield from epoch_order(self.data.weights, self.seed, self.epoch + 1).tolist()
        yield from [FILLER] * self.fillers


class StageTrainer(Trainer):  # type: ignore[misc] # transformers is untyped here
    """Trains an `Objective` as a recipe says, on one process or on those that `accelerate launch` started.

    After each epoch it judges the validation split, and saves safety modules, LoRA, optimizer, learning rate and
    random states, to go on from; nothing of it is pickled code.

    Args:
        objective: Model and loss.
        recipe: With objective "risk+lm".
        folder: For what is kept to go on from.
        train: Rows to learn from.
        validation: Rows to choose the epoch by.
        collator: Makes batches.
        judge: From the trained state, `Objective.trained_state`, to metrics of the validation split, as `ranking`
            gives them; called by all processes.
        progress: Shows each epoch.
    """

    loss_is_scaled_for_ga = True  # by `totals`

    def __init__(  # noqa: PLR0913, the parts of one run
        self,
        *,
        objective: Objective,
        recipe: Recipe,
        folder: Path,
        train: Labelled,
        validation: Labelled,
        collator: Collator,
        judge: Callable[[Mapping[str, Tensor]], dict[str, Any]],
        progress: Progress,
    ) -> None:
        self.optimizer: Any = None
        self.lr_scheduler: Any = None
        self.recipe = recipe
        self.folder = folder
        self.progress = progress
        self.run = Run()
        self._validation = validation
        self._judge = judge
        self._loss_sum = torch.zeros((), dtype=torch.float64)
        args = training_arguments(recipe, folder)
        super().__init__(
            model=objective,
            args=args,
            train_dataset=Rows(train),
            data_collator=collator,
            callbacks=[_EachEpoch(self)],
        )
        self.remove_callback(PrinterCallback)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps."""
        return math.ceil(len(self.train_dataset) / self.recipe.train.batch_size)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        stopping = self.recipe.train.early_stopping
        done = len(self.run.history)
        return done >= self.recipe.train.epochs or (done > 0 and done - self.best_epoch >= stopping.patience)

    @property
    def best_epoch(self) -> int:
        """The first of the best epochs so far."""
        metric = self.recipe.train.early_stopping.metric
        return int(max(self.run.history, key=lambda past: merit(past, metric))["epoch"])

    @property
    def shards_weights(self) -> bool:
        """Whether no process holds the whole model."""
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def fit(self) -> Path:
        """Trains, or goes on where an earlier run was killed.

        Returns:
            The folder of the best epoch, for `load_trained`.
        """
        last = complete_checkpoint(self.folder)
        if last is not None:
            self.run = read_run(last)
        if not self.finished:
            self.train(resume_from_checkpoint=None if last is None else str(last))
        return self.folder / f"checkpoint-{self.best_epoch * self.steps_per_epoch}"

    def create_optimizer(self, model: Any = None) -> Any:
        """AdamW over whatever is trained, as in `Trainable.optimizer`."""
        if self.optimizer is None:
            train = self.recipe.train
            trained = [weight for weight in (model or self.model).parameters() if weight.requires_grad]
            self.optimizer = torch.optim.AdamW(trained, lr=train.lr, weight_decay=train.weight_decay)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The learning rate of `fit`: a linear rise, then a cosine to zero."""
        if self.lr_scheduler is None:
            share = self.recipe.train.warmup
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer, lambda step: learning_rate(step, num_training_steps, 1.0, share)
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The parts of the next step, and their totals over all processes."""
        parts, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        objective = self.accelerator.unwrap_model(self.model)
        totals = torch.stack([objective.totals_of(part) for part in parts]).sum(dim=0).to(device)
        return parts, self.accelerator.reduce(totals, reduction="sum")

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """This part's share of the step's loss; processes are averaged later, so that each counts in full."""
        loss = model(totals=num_items_in_batch, **inputs) * self.accelerator.num_processes
        return (loss, {}) if return_outputs else loss

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """One part of a step; sums the losses of the epoch."""
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        self._loss_sum = self._loss_sum.to(loss.device) + loss.double()
        return loss

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Judges the validation split and adds the epoch to the history.

        Raises:
            TrainingError: The loss is not finite.
        """
        epoch = len(self.run.history) + 1
        mean = float(self.accelerator.reduce(self._loss_sum, reduction="mean")) / self.steps_per_epoch
        if not math.isfinite(mean):
            raise TrainingError(f"epoch {epoch}: the loss is not finite; lower lr, which is {self.recipe.train.lr}")
        lm = self.recipe.language
        found = self._judge(self._trained_state())
        found["loss"] = lm.risk_weight * found["loss"]
        if lm.lm_weight:
            found["lm_loss"] = self._answer_loss()
            found["loss"] += lm.lm_weight * found["lm_loss"]
        entry: Entry = {"epoch": epoch, "train_loss": mean, "validation": found}
        self.run = Run(history=[*self.run.history, entry])
        self._loss_sum = torch.zeros_like(self._loss_sum)
        self.progress.say(_line(entry))
        if self.finished:
            self.control.should_training_stop = True
        return {}

    def _trained_state(self) -> Mapping[str, Tensor]:
        if self.shards_weights:
            return dict(self.accelerator.get_state_dict(self.model_wrapped) or {})
        return dict(self.accelerator.unwrap_model(self.model).trained_state())

    def _answer_loss(self) -> float:
        """Mean next-token loss of the validation split's answers; every process has a share of the rows."""
        data, count = self._validation, self.accelerator.num_processes
        talking = [number for number, item in enumerate(data.items) if item.example.turns]
        talking += [FILLER] * (-len(talking) % count)  # shares of equal length
        mine = Subset(Rows(data), talking[self.accelerator.process_index :: count])
        size = self.args.per_device_train_batch_size
        sums = torch.zeros(2, dtype=torch.float64)
        self.model_wrapped.eval()
        with torch.no_grad():
            for batch in DataLoader(mine, batch_size=size, collate_fn=self.data_collator):
                tokens = self.accelerator.unwrap_model(self.model).totals_of(batch)[2]
                loss = self.model_wrapped(**self._prepare_inputs(batch))
                sums += torch.tensor([float(loss), float(tokens)], dtype=torch.float64)
        total, tokens = self.accelerator.reduce(sums.to(self.args.device), reduction="sum").tolist()
        return float(total / max(tokens, 1.0))

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochOrder:
        count, size = self.accelerator.num_processes, self.args.per_device_train_batch_size
        return EpochOrder(self.train_dataset.data, self.recipe.train.seed, count * size if count > 1 else 1)

    def _save(self, output_dir: str | None = None, state_dict: Mapping[str, Tensor] | None = None) -> None:
        if self.args.should_save:
            state = self.model.state_dict() if state_dict is None else state_dict
            save_trained(state, Path(output_dir or self.args.output_dir))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        loss_sum = float(self.accelerator.reduce(self._loss_sum, reduction="mean"))
        if self.args.should_save:
            best = self.best_epoch * self.steps_per_epoch if self.run.history else None
            step = self.state.global_step
            keep_checkpoints(self.folder, Run(history=self.run.history, loss_sum=loss_sum), step=step, best=best)
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            load_trained(self.accelerator.unwrap_model(self.model), Path(resume_from_checkpoint))
        self._loss_sum = torch.tensor(self.run.loss_sum, dtype=torch.float64)


class _EachEpoch(TrainerCallback):  # type: ignore[misc] # transformers is untyped here
    """Says when to judge and to save, and shows how far an epoch is."""

    def __init__(self, trainer: StageTrainer) -> None:
        self.trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Saves within an epoch where the recipe says so, never at its end, which has not been judged yet."""
        trainer = self.trainer
        every, steps = trainer.recipe.language.save_steps, trainer.steps_per_epoch
        done = state.global_step % steps
        control.should_save = bool(every) and done != 0 and state.global_step % every == 0
        if done and done % math.ceil(steps / SHOWN_PER_EPOCH) == 0:
            trainer.progress.say(f"epoch {state.global_step // steps + 1}: step {done} of {steps}")
        return control

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Judges, then saves."""
        control.should_evaluate = control.should_save = True
        return control


def training_arguments(recipe: Recipe, folder: Path) -> TrainingArguments:
    """The Trainer's arguments for a recipe on the processes that there are.

    Raises:
        TrainingError: The batch cannot be shared out.
    """
    train, lm = recipe.train, recipe.language
    args = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=train.epochs,
        gradient_accumulation_steps=lm.gradient_accumulation,
        max_grad_norm=MAX_GRAD_NORM,
        seed=train.seed % 2**32,  # numpy takes no larger one
        bf16=lm.dtype == "bfloat16",
        eval_strategy="no",  # `_EachEpoch` says when
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.accelerator.is_available(),
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=torch.cuda.is_available(),
        ddp_find_unused_parameters=lm.lm_weight == 0,
    )
    parts = lm.gradient_accumulation * args.world_size
    if train.batch_size % parts:
        raise TrainingError(
            f"batch_size is {train.batch_size}, but a step is computed in {lm.gradient_accumulation} parts on "
            f"{args.world_size} processes; make it a multiple of {parts}"
        )
    args.per_device_train_batch_size = train.batch_size // parts
    args._n_gpu = min(args.n_gpu, 1)  # several GPUs are for several processes
    return args


def _line(entry: Entry) -> str:
    found = entry["validation"]
    answers = f", of its answers {found['lm_loss']:.4f}" if "lm_loss" in found else ""
    return (
        f"epoch {entry['epoch']}: loss {entry['train_loss']:.4f}, validation auroc {found['auroc']:.4f}, "
        f"loss {found['loss']:.4f}{answers}"
    )
