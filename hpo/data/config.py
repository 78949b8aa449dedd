"""The `data:` section of a space file. Must not import anything heavy, nor read any row."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

SUFFIXES = (".tsv", ".csv", ".jsonl", ".parquet", ".conll")

Rows: TypeAlias = Annotated[int, Field(ge=1)]
Text: TypeAlias = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class SplitNames(Section):
    """What the splits are called on the Hub. A validation or test split that is not there is no error."""

    train: Text = "train"
    validation: Text = "validation"
    test: Text = "test"


class Files(Section):
    """One file a split; the suffix says the format. Relative paths start at the space file's folder."""

    train: Path
    validation: Path | None = None
    test: Path | None = None

    @field_validator("train", "validation", "test")
    @classmethod
    def _has_known_suffix(cls, path: Path | None) -> Path | None:
        if path is not None and path.suffix not in SUFFIXES:
            raise ValueError(f"{path} is not one of {', '.join(SUFFIXES)}; convert it, or give it the right suffix")
        return path


class Cut(Section):
    """`{from: train, rows: 2000}`: rows taken out of another split, by `data.seed`, and by label where labels are
    classes."""

    from_: Literal["train", "validation"] = Field(alias="from")
    rows: Rows


class Limit(Section):
    """The most rows of a split that are used, chosen by `data.seed`, and by label where labels are classes. per_class:
    so many training rows of each class, or all where it has fewer."""

    train: Rows | None = None
    validation: Rows | None = None
    test: Rows | None = None
    per_class: Rows | None = None

    @model_validator(mode="after")
    def _limits_train_once(self) -> Self:
        if self.train is not None and self.per_class is not None:
            raise ValueError(f"train={self.train} and per_class={self.per_class} both limit train; remove one")
        return self


class DataConfig(Section):
    """One source, and how its rows become train, validation and test.

    hub: a data set on the Hugging Face Hub, with `config`, `revision` and `splits`. files: local files. builtin:
    text that is on every machine with this program. validation, test: cut from another split instead of published.
    seed: of the rows that cuts and limits take. It is not the study's, so that studies with other seeds are judged on
    the same test rows, and none of these has taught the champion that they meet. group: a column, which the task need
    not read; cuts take whole groups of rows with the same value there, at random, not by label.
    """

    hub: Text | None = None
    config: Text | None = None
    revision: Text | None = None
    splits: SplitNames = SplitNames()
    files: Files | None = None
    builtin: Literal["docstrings"] | None = None
    validation: Cut | None = None
    test: Cut | None = None
    group: Text | None = None
    limit: Limit = Limit()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 17

    @field_validator("hub")
    @classmethod
    def _is_an_id(cls, hub: str | None) -> str | None:
        if hub is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", hub):
            raise ValueError(f"{hub!r} is no id of the Hub; write owner/name, such as nyu-mll/glue (or use files)")
        return hub

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        given = [name for name in ("hub", "files", "builtin") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"{' and '.join(given) or 'no source'} given; give exactly one of hub, files, builtin")
        own = {"config": self.config, "revision": self.revision, "splits": self.splits != SplitNames() or None}
        of_hub = [name for name, value in own.items() if value is not None]
        if of_hub and self.hub is None:
            raise ValueError(f"{', '.join(of_hub)} given with {given[0]}; they belong to hub, remove them")
        return self

    @model_validator(mode="after")
    def _every_split_is_one_thing(self) -> Self:
        roles = [name for name in SplitNames.model_fields if getattr(self, name, None) is None]  # the others are cut
        names = [getattr(self.splits, name) for name in roles]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            both = " and ".join(role for role, name in zip(roles, names, strict=True) if name == twice)
            raise ValueError(
                f"the split {twice!r} is named for {both}; cut one of them instead, "
                "as in validation: {from: train, rows: 1000}"
            )
        return self

    @model_validator(mode="after")
    def _cuts_are_possible(self) -> Self:
        if self.validation is not None and self.validation.from_ != "train":
            raise ValueError("validation is cut from itself; cut it from train")
        if self.validation is not None and self.test is not None and self.test.from_ == "validation":
            raise ValueError("test is cut from validation, which is itself a cut; cut both from train")
        if self.files is None:
            return self
        paths = (self.files.train, self.files.validation, self.files.test)
        if self.group is not None and any(path is not None and path.suffix == ".conll" for path in paths):
            raise ValueError(f"group is {self.group}, but a conll file has words and tags only; use jsonl")
        if self.validation is not None and self.files.validation is not None:
            raise ValueError("validation is both a file and a cut; remove one of them")
        if self.test is not None and self.files.test is not None:
            raise ValueError("test is both a file and a cut; remove one of them")
        if self.validation is None and self.files.validation is None:
            raise ValueError(
                "no validation rows to choose the best trial by; "
                "add files.validation, or validation: {from: train, rows: 1000}"
            )
        if self.test is not None and self.test.from_ == "validation" and self.files.validation is None:
            raise ValueError("test is cut from a validation file that is not given; cut it from train")
        return self
