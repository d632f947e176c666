"""What "valid" means, on both sides of the migration.

Nothing here imports `flows`. Great Expectations, which takes seconds to import, is
loaded only when a frame is validated.

- `contract`: columns, patterns, limits, and the reasons for which a row fails.
- `arrow_text`: columns as Arrow text, whatever they hold.
- `facts`: facts about each row, as columns of booleans.
- `expectations`: the rules, as business-named Great Expectations classes.
- `suites`: the suites, built in code.
- `suite_runner`: a suite's verdict on each combination of facts.
- `validate`: `validate_enterprises` and `validate_items`.
- `sql`: the source's suite on the PostgreSQL table itself.
- `data_docs`: Great Expectations' pages of a run.
- `html_tables`: tables for notebooks, whose long values are cut.
- `report`: `ValidationReport`, the failures as a DataFrame, and the errors.
"""
