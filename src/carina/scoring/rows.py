"""One row a film: which columns a score table has, and what stands in them.

Knows predictions and refusals, not files. Pure, but for the schema, which needs pyarrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from carina.records import Prediction, Refusal
from carina.scoring.heat import outside
from carina.scoring.probabilities import Posterior
from carina.scoring.sets import OR, Sets
from carina.taxonomy import column_name

if TYPE_CHECKING:
    import pyarrow

Row = dict[str, Any]
_TEXT = frozenset({"path", "class", "set", "refused"})


class Rows:
    """The rows for one bundle's classes.

    The columns are ``path``, ``class`` (the most probable), ``p_disease``, one ``p_<class>`` for each
    class, with ``sets`` a column ``set`` ("TB or Other Findings"), with ``posterior`` a column of that name
    (the corrected probability of disease at a prevalence), with ``heat`` a column ``heat_outside``
    (:func:`carina.scoring.heat.outside` of the class's map), and ``refused``: empty, or the reason, and
    then class and probabilities are ``None``. ``clash`` says that two classes share a column.
    """

    def __init__(
        self,
        classes: Sequence[str],
        sets: Sets | None = None,
        posterior: Posterior | None = None,
        *,
        heat: bool = False,
    ) -> None:
        self.classes, self.sets, self.posterior, self.heat = tuple(classes), sets, posterior, heat
        asked = {"set": sets is not None, "posterior": posterior is not None, "heat_outside": heat}
        added = tuple(name for name, wanted in asked.items() if wanted)
        self.columns = ("path", "class", "p_disease", *map(column_name, self.classes), *added, "refused")
        self.clash = len(set(self.columns)) != len(self.columns)

    def of(self, item: Prediction | Refusal) -> Row:
        """The row of one film. Probabilities are the shortest decimals that are their float32."""
        if isinstance(item, Refusal):
            nothing = dict.fromkeys(self.columns[1:-1])
            return {"path": item.path, **nothing, "refused": item.reason or item.code}
        if item.classes != self.classes:
            raise ValueError(f"{item.path}: scored for {item.classes}, the table is for {self.classes}")
        shares = [_short(each) for each in item.probabilities]
        probabilities = zip(map(column_name, self.classes), shares, strict=True)
        added: Row = {} if self.sets is None else {"set": OR.join(self.sets.of(self.classes, shares))}
        if self.posterior is not None:
            added["posterior"] = round(self.posterior.of(item.probabilities), 9)
        if self.heat:
            added["heat_outside"] = _outside(item)
        return {
            "path": item.path,
            "class": item.top_class,
            "p_disease": round(item.p_disease, 9),
            **dict(probabilities),
            **added,
            "refused": "",
        }

    def schema(self) -> pyarrow.Schema:
        """The kinds of the columns in Parquet: text, and float32."""
        import pyarrow  # only where Parquet is asked for: a tenth of a second

        text, number = pyarrow.string(), pyarrow.float32()
        return pyarrow.schema([(column, text if column in _TEXT else number) for column in self.columns])


def _outside(item: Prediction) -> float | None:
    found = outside(item.cam[item.classes.index(item.top_class)])
    return None if found is None else round(found, 4)


def _short(probability: Any) -> float:
    """The shortest decimal that is this float32."""
    return float(str(probability))
