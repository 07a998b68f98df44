"""Write the published schemas anew, after a record type changed."""

from pytest_slmperf.model.schema import FOLDER, generate, text

for name, schema in generate().items():
    (FOLDER / name).write_text(text(schema), encoding="utf-8")
    print(FOLDER / name)
