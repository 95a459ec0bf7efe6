"""Models of one modality given another. They load scvi-tools, torch and Lightning, and so does asking for one."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psalm.model._cross_modal import CrossModal

__all__ = ["CrossModal"]


def __getattr__(name: str) -> Any:
    if name == "CrossModal":
        from psalm._lightning import quiet

        with quiet():
            from psalm.model._cross_modal import CrossModal
        return CrossModal
    msg = f"module 'psalm.model' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return __all__
