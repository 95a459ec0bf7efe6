import numpy as np

from psalm.core.folds import deal_folds, deal_groups


def test_folds_deal_each_treatment_evenly_and_leave_unlabelled_cells_out(rng):
    codes = np.repeat([0, 1, 2, -1], [23, 10, 1, 5])
    folds = deal_folds(codes, 5, rng)
    for code in (0, 1, 2):
        sizes = np.bincount(folds[codes == code], minlength=5)
        assert sizes.max() - sizes.min() <= 1
    assert (folds[codes == -1] == -1).all()


def test_groups_are_never_split_and_every_cell_is_held_out_once(rng):
    codes, groups = rng.integers(-1, 3, size=300), rng.integers(12, size=300)
    folds = deal_groups(codes, groups, 4, rng)
    labelled = codes >= 0
    assert (folds[~labelled] == -1).all()
    assert set(folds[labelled]) == {0, 1, 2, 3}
    for group in range(12):
        assert len(set(folds[labelled & (groups == group)])) == 1
