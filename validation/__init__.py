"""What "valid" means, on both sides of the migration.

A leaf: nothing here imports `flows`, and Great Expectations, which takes seconds
to import, is loaded only when a frame is validated.

- `contract`: columns, patterns, limits, and the reasons for which a row fails.
- `facts`: what is true of each row, as columns of booleans and numbers.
- `expectations`: the rules, as business-named Great Expectations classes.
- `suites`: the two suites, built in code.
- `run`: `validate_enterprises` and `validate_items`.
- `report`: `ValidationReport`, the failures as a DataFrame, and the errors.
"""
