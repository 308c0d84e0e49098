import csv
import io
import statistics

import wit_world
from componentize_py_types import Err
from wit_world import Cell, Problem_NoColumn, Problem_NoRows, Problem_NotANumber, Summary


class WitWorld(wit_world.WitWorld):
    """The functions of wit/world.wit."""

    def summarize(self, csv: str, column: str) -> Summary:
        numbers = read(csv, column)
        if not numbers:
            raise Err(Problem_NoRows())
        return Summary(
            rows=len(numbers),
            mean=statistics.fmean(numbers),
            median=statistics.median(numbers),
            deviation=statistics.stdev(numbers) if len(numbers) > 1 else None,
            least=min(numbers),
            most=max(numbers),
        )


def read(text: str, column: str) -> list[float]:
    """The numbers of a column, from the second line on."""
    reader = csv.DictReader(io.StringIO(text))
    columns = list(reader.fieldnames or [])
    if column not in columns:
        raise Err(Problem_NoColumn(columns))
    numbers = []
    for row in reader:
        cell = row[column] or ""
        try:
            numbers.append(float(cell))
        except ValueError:
            raise Err(Problem_NotANumber(Cell(reader.line_num, cell))) from None
    return numbers
