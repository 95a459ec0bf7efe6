"""The one reader of columns of ``obs``, and every step that reads by it."""

import datetime as dt
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

import psalm
from psalm import _cells, _design, _obs, _spelling

DAY = "2023-01-01"
COMPOSED, DECOMPOSED = "caf\xe9", "cafe\u0301"


def read(values):
    """The label of each cell, None where it has none, and the labels in order."""
    found = _obs.labels(pd.Series(values), "`obs['x']`")
    return [None if pd.isna(label) else label for label in found], list(found.cat.categories)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_numbers_of_every_width_have_the_text_they_were_written_with(dtype):
    values = np.array(["0.3", "0.1", "1e-4", "1e-5", "10", "0", "2.5"], dtype=np.float64).astype(dtype)
    values = np.array([0.3, 0.1, 1e-4, 1e-5, 10, 0, 2.5], dtype=dtype) if dtype is not np.longdouble else values
    assert read(values)[1] == ["0", "1e-05", "0.0001", "0.1", "0.3", "2.5", "10"]


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(pd.array([0.1, None, 2], dtype="Float32"), id="nullable"),
        pytest.param(pd.Categorical(pd.Series([0.1, np.nan, 2], dtype="float32")), id="categories"),
        pytest.param(np.array([np.float32(0.1), None, np.float16(2)], dtype=object), id="objects"),
        pytest.param(pd.arrays.SparseArray(np.array([0.1, np.nan, 2], np.float32)), id="sparse"),
        pytest.param(np.array([Decimal("0.10"), pd.NA, Decimal("2.0")], dtype=object), id="decimal"),
        pytest.param(np.array([Fraction(1, 10), pd.NaT, 2], dtype=object), id="fraction"),
        pytest.param(["0.1", None, "2"], id="text"),
        pytest.param([b"0.1", None, np.str_("2")], id="bytes"),
    ],
)
def test_numbers_in_whatever_they_are_stored(values):
    assert read(values) == (["0.1", None, "2"], ["0.1", "2"])


@pytest.mark.parametrize("one", [1, 1.0, np.int8(1), np.uint64(1), np.float16(1), "1", b"1", Decimal("1.00")])
def test_one_is_one_label(one):
    assert read(np.array([one, 1, "1"], dtype=object)) == (["1"] * 3, ["1"])
    assert _obs.text(one) == "1"


def test_beside_numbers_their_other_spellings_are_the_same():
    """As of a plate read in chunks, some as numbers and some as text."""
    assert read([1.0, "1.0", "01", 2, "x", np.nan, None, pd.NA])[0] == ["1", "1", "1", "2", "x", None, None, None]
    assert read(["1.0", "01", "1"])[1] == ["01", "1", "1.0"]


def test_truth_values_are_no_numbers():
    assert read(np.array([True, 1, "True", np.bool_(False)], dtype=object))[0] == ["True", "1", "True", "False"]
    assert read(pd.array([True, None], dtype="boolean"))[0] == ["True", None]


@pytest.mark.parametrize(
    ("value", "said"),
    [(-0.0, "0"), (1e16, "1" + "0" * 16), (np.float32(1e16), "1" + "0" * 16), (2.0**60, str(2**60)), (np.inf, "inf")],
)
def test_unusual_numbers(value, said):
    assert _obs.text(value) == said
    assert read([value])[1] == [said]


@pytest.mark.parametrize(
    "value",
    [
        pd.Timestamp(DAY),
        np.datetime64(DAY),
        np.datetime64(DAY, "ns"),
        dt.date(2023, 1, 1),
        dt.datetime(2023, 1, 1),
        DAY,
    ],
)
def test_a_day_is_one_label_in_every_type(value):
    assert read(np.array([value, DAY], dtype=object))[1] == [DAY]
    assert read(pd.to_datetime([DAY, None]))[0] == [DAY, None]
    assert read(pd.to_datetime([f"{DAY} 12:00"]))[1] == [f"{DAY} 12:00:00"]


def test_two_unicode_forms_are_one_label():
    assert read([COMPOSED, DECOMPOSED])[1] == [COMPOSED]


def test_categories_keep_their_order_and_intervals_ascend():
    assert read(pd.Categorical(["b", "a"], categories=["b", "unused", "a"], ordered=True))[1] == ["b", "a"]
    assert read(pd.cut([11, 1], [0, 10, 20]))[1] == ["(0, 10]", "(10, 20]"]
    assert read(pd.Series(pd.arrays.IntervalArray.from_tuples([(10, 20), (2, 10)])))[1] == ["(2, 10]", "(10, 20]"]
    assert read(["b", 10, 2, "a"])[1] == ["2", "10", "a", "b"]


@pytest.mark.parametrize("cell", [["g1", "g2"], ("g1", "g2"), {"g1"}, np.array(["g1"]), {"g": 1}], ids=str)
def test_lists_of_guides_are_refused_in_words(cell):
    column = pd.Series([None, cell, "g3"], dtype=object)
    with pytest.raises(TypeError, match=r"`obs\['x'\]` has cells that hold several .*Join them.*separator="):
        read(column)


def test_bytes_that_are_no_text_are_refused_in_words():
    with pytest.raises(ValueError, match=r"not UTF-8. Decode them"):
        read([b"\xff", b"a"])


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(pd.array([1, None], dtype="Int64"), id="nullable"),
        pytest.param(np.array([Decimal(1), None], dtype=object), id="decimal"),
        pytest.param(np.array([1, pd.NA], dtype=object), id="objects"),
        pytest.param(pd.Categorical([1, np.nan]), id="categories"),
        pytest.param(np.array([1, np.nan], np.float16), id="half"),
    ],
)
def test_numbers(values):
    column = _obs.Column(pd.Series(values), "x")
    assert column.is_number
    np.testing.assert_array_equal(column.numbers(), [1, np.nan])


@pytest.mark.parametrize("value", ["1", 1j, b"1", [1], pd.Timestamp(DAY)], ids=str)
def test_what_is_no_number(value):
    assert not _obs.Column(pd.Series([value, None], dtype=None), "x").is_number


def test_relabelling_keeps_cells_and_order():
    column = pd.Series(pd.Categorical(["b", "a", None, "c"], categories=["c", "b", "a"]))
    found = _obs.relabelled(column, ["X", None, "X"])
    assert list(found.cat.categories) == ["X"]
    assert found.isna().tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("1.0", "1"),
        ("0.10", ".1"),
        ("0,1", "0.1"),
        ("1e-3", "0.001"),
        ("0.10000000149011612", "0.1"),
        ("dex : 1", "Dex : 1.0"),
        ("0.5 uM", "0.50uM"),
        ("\xb5M", "\u03bcM"),
        (COMPOSED.upper(), DECOMPOSED),
        ("NK cells ", "nk-cells"),
        ("Stra\xdfe", "STRASSE"),
        ("a\u200bb", "ab"),
        ("\uff11", "1"),
    ],
)
def test_spelled_alike(first, second):
    assert _spelling.alike([first, "other", second]) == [[first, second]]


@pytest.mark.parametrize(
    ("first", "second"),
    [("1.0", "10"), ("-1", "1"), ("0.1", "01"), ("20231101", "20231102"), ("65500", "65504"), ("g1", "g2")],
)
def test_not_spelled_alike(first, second):
    assert not _spelling.alike([first, second])


@pytest.mark.parametrize("name", ["1_0", "nan", "inf", "", "g1", "1,000,000"])
def test_what_spells_no_number(name):
    assert _spelling.number(name) is None


def test_names_that_look_the_same_are_told_apart_by_their_letters():
    assert _spelling.shown(["\xb5M", "\u03bcM"]) == "'\xb5M' ('\\xb5M'), '\u03bcM' ('\\u03bcM')"


def columns(mdata, name, **of_modality):
    """Put a column into modalities; a value for all cells, or one for each."""
    for modality, values in of_modality.items():
        mdata[modality].obs[name] = values


def plates(n_cells, *, mixed):
    """Four plates, as numbers, or half of them as text."""
    numbers = np.arange(n_cells) % 4 + 1
    return [str(plate) if mixed and i % 8 < 4 else int(plate) for i, plate in enumerate(numbers)]


def doses(mdata, **dtypes):
    """A dose for each treatment, in another type in each modality."""
    for (name, dtype), value in zip(dtypes.items(), [[0.0, 0.1, 0.3, 2.5]] * 2, strict=True):
        codes = mdata[name].obs["perturbation"].cat.codes.to_numpy()
        mdata[name].obs["dose"] = np.array(value, dtype=dtype)[codes]


@pytest.mark.parametrize("dtypes", [(np.float32, np.float64), (np.float16, np.float32), (object, np.float16)])
@pytest.mark.parametrize("options", [{}, {"control": 0.1}, {"control": np.float32(0.1)}, {"mapping": True}])
def test_doses_of_other_widths_are_the_same_treatments(raw, dtypes, options):
    doses(raw, a=dtypes[0], b=dtypes[1])
    names = pd.Series(list("wxyz"), index=np.array([0, 0.1, 0.3, 2.5], np.float32))
    options = {"mapping": names} if "mapping" in options else options
    psalm.pp.treatment(raw, "dose", **options)
    assert set(raw.uns["treatment"].index) == (set("wxyz") if "mapping" in options else {"0", "0.1", "0.3", "2.5"})
    assert (raw.uns["treatment"]["status"] == "kept").all()


def test_doses_of_another_spelling_are_named(raw):
    codes = {name: raw[name].obs["perturbation"].cat.codes.to_numpy() for name in raw.mod}
    raw["a"].obs["dose"] = np.array(["0", "1.0", "10", "0.10"])[codes["a"]]
    raw["b"].obs["dose"] = np.array([0, 1.0, 10, 0.1])[codes["b"]]
    with pytest.warns(UserWarning, match=r"perhaps the same: ('1.0', '1'; '0.10', '0.1'|'0.10', '0.1'; '1.0', '1')\."):
        psalm.pp.treatment(raw, "dose")


def test_hints_of_unknown_controls_and_labels(raw):
    doses(raw, a=float, b=float)
    with pytest.raises(ValueError, match=r"Spelled alike, so perhaps the same: '0.10', '0.1'. Pass one"):
        psalm.pp.treatment(raw, "dose", control="0.10")
    with pytest.raises(ValueError, match=r"Spelled alike, so perhaps the same: '2.5', '2.50'"):
        psalm.pp.treatment(raw, "dose", mapping={0: "a", 0.1: "b", 0.3: "c", "2.50": "d"})


def test_labels_that_are_alike_are_named_where_too_few_are_left(raw):
    for name, label in (("a", "\xb5M"), ("b", "\u03bcM")):
        columns(raw, "unit", **{name: label})
    with pytest.raises(ValueError, match=r"Spelled alike, so perhaps the same: '.M' \('\\xb5M'\)"):
        psalm.pp.treatment(raw, "unit")


def test_plates_as_numbers_and_text_are_one_stratum(raw):
    columns(raw, "plate", a=plates(240, mixed=True), b=plates(240, mixed=False))
    psalm.pp.treatment(raw, "perturbation", within="plate")
    assert sorted(raw.uns["treatment_within"]["stratum"].unique()) == ["1", "2", "3", "4"]


def test_groups_of_numbers_and_text_are_not_split(raw):
    columns(raw, "plate", a=plates(240, mixed=True))
    numbers, names = _design.column_codes(raw, "a", "plate", np.zeros(240, int), "groups")
    assert sorted(names) == ["1", "2", "3", "4"]
    assert [names[number] for number in numbers] == [str(plate) for plate in plates(240, mixed=False)]
    psalm.pp.treatment(raw, "perturbation")
    columns(raw, "plate", b=1)
    with pytest.raises(
        ValueError, match=r"has 4 groups in 'a' for 5 folds. Pass `n_folds=` up to the number of groups."
    ):
        psalm.tl.propensity(raw, groups="plate", n_repeats=1, progress=False)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, str, "category"])
def test_batches_of_new_cells_are_known_in_every_type(raw, tmp_path, dtype):
    batch = np.arange(240) % 2 / 10  # 0 and .1
    for name in raw.mod:
        raw[name].obs["batch"] = batch.astype(np.float32)
    psalm.pp.treatment(raw, "perturbation")
    file = tmp_path / "models.skops"
    options = {"n_repeats": 1, "n_folds": 2, "classifier": "logistic", "progress": False}
    psalm.tl.propensity(raw, batch_key="batch", save=file, **options)
    new = raw["a"][:10].copy()
    new.obs_names = [f"new{i}" for i in range(10)]
    new.obs["batch"] = (
        np.array(["0", "0.1"])[np.arange(10) % 2]
        if dtype is str
        else pd.Series(batch[:10], new.obs_names).astype(dtype)
    )
    psalm.tl.score(new, file, modality="a", progress=False)
    assert np.isfinite(new.obsm["propensity"]).all()
    new.obs["batch"] = np.array(["0", "0.10"])[np.arange(10) % 2]
    with pytest.raises(ValueError, match=r"Batches '0.10' .*Spelled alike, so perhaps the same: '0.10', '0.1'"):
        psalm.tl.score(new, file, modality="a", progress=False)
    new.obs["batch"] = np.nan
    with pytest.raises(ValueError, match="10 cells of 'a' have no batch"):
        psalm.tl.score(new, file, modality="a", progress=False)


@pytest.fixture
def repeated(matched):
    """Modality "a" has two columns named "twice"."""
    columns(matched, "twice", a=1.0, b=1.0)
    matched["a"].obs["other"] = 2.0
    matched["a"].obs = matched["a"].obs.rename(columns={"other": "twice"})
    return matched


ENDS = {"source": "a", "target": "b"}
READERS = {
    "key": lambda m, column: psalm.pp.treatment(m, column, key_added="t2"),
    "within": lambda m, column: psalm.pp.treatment(m, "perturbation", within=column, key_added="t2"),
    "groups": lambda m, column: psalm.tl.propensity(m, groups=column, n_repeats=1, progress=False, key_added="p2"),
    "batch_key": lambda m, column: psalm.tl.propensity(
        m, batch_key=column, n_repeats=1, progress=False, key_added="p2"
    ),
    "mass": lambda m, column: psalm.tl.match(m, mass=column, progress=False, key_added="m2", **ENDS),
    "truth": lambda m, column: psalm.tl.evaluate(m, truth=column),
    "labels": lambda m, column: psalm.tl.evaluate(m, labels=column),
    "keys": lambda m, column: psalm.tl.transfer(m, keys=column, **ENDS),
    "color": lambda m, column: psalm.pl.links(m, basis="latent", color=column, show=False),
    "order_by": lambda m, column: psalm.pl.coupling(m, treatment="control", order_by=column, show=False),
}


@pytest.mark.parametrize("argument", READERS)
def test_a_name_that_is_there_twice_is_refused_in_words(repeated, argument):
    with pytest.raises(ValueError, match=r"`mdata\['a'\].obs` has 2 columns named 'twice', so it is not clear which"):
        READERS[argument](repeated, "twice")


@pytest.mark.parametrize("argument", READERS)
def test_messages_say_where_a_column_may_be(matched, argument):
    matched.obs["a:plate"] = "1"
    matched.obs[DECOMPOSED] = "1"
    found = r"Found.*'perturbation'.*; in `mdata.obs`: 'a:plate'.*Perhaps you mean 'a:plate'. Pass"
    with pytest.raises(KeyError, match=rf"'plate'.* is n.*{found}"):
        READERS[argument](matched, "plate")
    with pytest.raises(KeyError, match=r"Perhaps you mean 'cafe.*' \('cafe\\+u0301'\)"):
        READERS[argument](matched, COMPOSED)


@pytest.mark.parametrize("argument", ["groups", "batch_key", "mass", "labels", "keys", "color", "order_by"])
def test_a_column_of_the_container_is_read(matched, argument):
    """The cells of both modalities, in the modality's order; mass gets it exactly in the next test."""
    matched.obs["joint"] = np.arange(matched.n_obs) % 6 + 1
    READERS[argument](matched, "joint")
    column = _obs.find(matched, "b", "joint", "x")
    assert column.values.equals(matched.obs.loc[matched["b"].obs_names, "joint"])


def test_identities_may_be_numbers_in_one_modality_and_text_in_the_other(matched):
    columns(matched, "cell", a=np.arange(240.0), b=[str(i) for i in range(240)])
    table = psalm.tl.evaluate(matched, truth="cell", n_bootstrap=0)
    columns(matched, "cell", b=np.arange(240))
    pd.testing.assert_frame_equal(table, psalm.tl.evaluate(matched, truth="cell", n_bootstrap=0))
    assert table["n_pairs"].iloc[-1] > 0


def test_labels_of_other_types_are_the_same_labels(matched):
    columns(matched, "state", a=(np.arange(240) % 3).astype(np.float32), b=[str(i % 3) for i in range(240)])
    table = psalm.tl.evaluate(matched, labels="state", truth=None, latent=None, n_bootstrap=0)
    columns(matched, "state", b=np.arange(240) % 3)
    pd.testing.assert_frame_equal(table, psalm.tl.evaluate(matched, labels="state", n_bootstrap=0))


def test_masses_are_read_from_every_type_of_number(raw):
    mass = np.arange(240) % 5 + 1
    for values in (mass, pd.array(mass, dtype="Int64"), pd.Categorical(mass), np.array(list(mass), dtype=object)):
        columns(raw, "w", a=values)
        np.testing.assert_array_equal(_cells.masses(raw, "a", "w", np.zeros(240, int)), mass)
    raw["a"].obs["w"] = pd.array([None, *mass[1:]], dtype="Int64")
    codes = np.array([-1, *[0] * 239])  # the cell without a mass takes no part
    np.testing.assert_array_equal(_cells.masses(raw, "a", "w", codes), [0, *mass[1:]])
    with pytest.raises(ValueError, match=r"`mdata\['a'\].obs\['w'\]` is not a positive finite number for 1 cells"):
        _cells.masses(raw, "a", "w", np.zeros(240, int))


def test_transferred_labels_of_one_text_are_one(matched):
    columns(matched, "plate", a=pd.Categorical([1, "1", "2"] * 80, categories=["2", 1, "1", "none"]))
    psalm.tl.transfer(matched, keys="plate", **ENDS)
    assert list(matched["b"].obs["plate_from_a"].cat.categories) == ["2", "1", "none"]


def test_cells_without_treatment_are_not_drawn_as_the_treatment_nan():
    from psalm.pl._clouds import NO_TREATMENT, label_colours

    labels = pd.Series(pd.Categorical(["nan", None]))
    assert label_colours(labels, {"nan": "red"}) == ["red", NO_TREATMENT]
