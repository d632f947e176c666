"""What "valid" means, on both sides of the migration.

Nothing here imports `flows`. Great Expectations, which takes seconds to import, is
loaded only when a frame is validated.

- `contract`: columns, patterns, limits, and the reasons for which a row fails.
- `subject`: the columns of an entity's rows, and their rules.
- `rules`, `subject_reasons`: the rules and reasons of a subject.
- `arrow_text`, `array_text`, `json_text`, `numbers`, `moments`: values, read exactly.
- `facts`: facts about each row, as columns of booleans; `column_facts`, `bounds` and
  `impossible` those of mapped columns, `attribute_facts` and `item_values` those of
  their attributes, and `masks` what they share.
- `expectations`: the rules, as business-named Great Expectations classes.
- `suites`: the suites, built in code.
- `suite_runner`: a suite's verdict on each combination of facts.
- `validate`: `validate_enterprises` and `validate_items`.
- `sql`, `column_sql`: the source's suite on the PostgreSQL table itself.
- `data_docs`: Great Expectations' pages of a run.
- `html_tables`: tables for notebooks, whose long values are cut.
- `report`: `ValidationReport`, the failures as a DataFrame, and the errors.
"""
