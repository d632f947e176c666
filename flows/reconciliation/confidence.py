"""What a sample says about the rows that it leaves out."""


def largest_share(wrong: int, sample: int) -> float:
    """Return the largest share of wrong rows, with 95 % confidence.

    It is the one-sided Clopper-Pearson bound for *wrong* rows among *sample* rows.
    """
    if not sample:
        return 1.0
    # Imported here: it takes a second, and only samples need it.
    from scipy.stats import binomtest

    found = binomtest(wrong, sample, alternative="less")
    return float(found.proportion_ci(0.95, method="exact").high)
