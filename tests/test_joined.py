"""Results stay with the cells that they were made of: a subset keeps them, a union with other cells is refused."""

import warnings

import anndata
import matplotlib.pyplot as plt
import mudata
import numpy as np
import pytest

import psalm
from psalm._containers import no_pull, stack

N_CELLS = 60
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # findings on so few cells
READERS = {
    "exact coupling": lambda m: psalm.get.coupling(m, exact=True),
    "coupling": psalm.get.coupling,
    "report": psalm.get.report,
    "scores": lambda m: psalm.get.propensity(m, "a"),
    "report of scores": psalm.get.propensity_report,
    "predicted": lambda m: psalm.get.predicted(m, "b"),
    "match": lambda m: psalm.tl.match(m, source="a", target="b", progress=False),
    "propensity": lambda m: psalm.tl.propensity(m, n_repeats=1, progress=False),
    "evaluate": lambda m: psalm.tl.evaluate(m, latent="latent", n_bootstrap=0),
    "diagnose": lambda m: psalm.tl.diagnose(m, n_permutations=3, progress=False),
    "transfer": lambda m: psalm.tl.transfer(m, keys="X", source="a", target="b"),
    "predict": lambda m: psalm.tl.predict(m, source="a", target="b", max_epochs=1, progress=False),
    "embed": psalm.tl.embed,
    "embed matched": lambda m: psalm.tl.embed(m, kind="matched", use_rep="X"),
    "pl.treatments": psalm.pl.treatments,
    "pl.propensity": psalm.pl.propensity,
    "pl.agreement": psalm.pl.agreement,
    "pl.overlap": psalm.pl.overlap,
    "pl.match": psalm.pl.match,
    "pl.coupling": psalm.pl.coupling,
    "pl.embedding": psalm.pl.embedding,
    "pl.links": psalm.pl.links,
    "pl.prediction": psalm.pl.prediction,
    "pl.evaluation": psalm.pl.evaluation,
}


def named(mdata, prefix):
    """The same cells under other names."""
    found = {name: adata.copy() for name, adata in mdata.mod.items()}
    for adata in found.values():
        adata.obs_names = [f"{prefix}{name}" for name in adata.obs_names]
    return stack(found)


def made(prefix, seed):
    """Cells after every step."""
    mdata = named(psalm.datasets.simulated(n_cells=N_CELLS, n_treatments=3, n_features=(10, 8), rng=seed), prefix)
    options = {"progress": False}
    with no_pull(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        psalm.pp.treatment(mdata, "perturbation")
        for name in mdata.mod:
            psalm.pp.represent(mdata, name, kind="features")
        psalm.tl.propensity(mdata, n_repeats=1, n_folds=2, classifier="logistic", **options)
        psalm.tl.match(mdata, source="a", target="b", **options)
        psalm.tl.predict(mdata, source="a", target="b", max_epochs=1, accelerator="cpu", **options)
        psalm.tl.embed(mdata)
        psalm.tl.evaluate(mdata, latent="latent", n_bootstrap=0)
    return mdata


@pytest.fixture(scope="module")
def first():
    return made("x", 0)


@pytest.fixture(scope="module")
def second():
    return made("y", 1)


def joined(parts, uns_merge="first", *, pairwise=True):
    with no_pull(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mudata.concat(parts, uns_merge=uns_merge, pairwise=pairwise)


def halves(mdata):
    """Every second cell of each modality, and the others."""
    return [mdata[np.concatenate([mdata[name].obs_names[start::2] for name in mdata.mod])].copy() for start in range(2)]


@pytest.fixture(scope="module")
def union(first, second):
    return joined([first, second])


@pytest.mark.parametrize("name", READERS)
def test_results_of_two_runs_are_refused(name, union):
    """With the record of the first; every reader and every step that begins from them."""
    with pytest.raises(ValueError, match=r"(different runs|were added since).*[Rr]un .* again|pp.represent"):
        READERS[name](union.copy())
    plt.close("all")


@pytest.mark.parametrize("uns_merge", [None, "first", "same", "unique", "only"])
@pytest.mark.parametrize("pairwise", [True, False], ids=["pairwise", "not pairwise"])
def test_every_way_of_joining_is_answered_in_words(uns_merge, pairwise, first, second):
    found = joined([first, second], uns_merge, pairwise=pairwise)
    for read in ("exact coupling", "coupling", "evaluate", "transfer", "predict", "predicted", "scores", "embed"):
        with pytest.raises((ValueError, KeyError), match=r"anndata.concat.*mudata.concat.*again"):
            READERS[read](found)


@pytest.mark.parametrize("uns_merge", [None, "first", "same"])
def test_halves_of_two_runs_are_refused(uns_merge, first, second):
    """No more cells than either run had, so that no count betrays them."""
    found = joined([halves(first)[0], halves(second)[1]], uns_merge)
    for read in ("exact coupling", "coupling", "scores", "embed"):
        with pytest.raises((ValueError, KeyError), match="as happens where containers are joined"):
            READERS[read](found)


@pytest.mark.parametrize("uns_merge", [None, "first", "same"])
def test_the_default_takes_no_representation_of_two_spaces(uns_merge, first, second):
    mods = {name: anndata.concat([first[name], second[name]], uns_merge=uns_merge) for name in first.mod}
    both = stack(mods)
    psalm.pp.treatment(both, "perturbation")
    for use_rep in (None, "X_psalm"):
        with pytest.raises(ValueError, match=r"'X_psalm' in `mdata\['a'\]` is of 2 different runs.*pp.represent"):
            psalm.tl.propensity(both, use_rep=use_rep, progress=False)
    for name in both.mod:  # as the message says
        psalm.pp.represent(both, name, kind="features")
    psalm.tl.propensity(both, n_repeats=1, progress=False)
    psalm.tl.match(both, source="a", target="b", progress=False)
    assert psalm.get.coupling(both, exact=True).sum() == pytest.approx(1)


def test_a_representation_without_a_record_is_taken_by_name_only(raw):
    psalm.pp.treatment(raw, "perturbation")
    raw["a"].obsm["X_psalm"] = raw["a"].X[:, :5].copy()
    with pytest.raises(ValueError, match=r"obsm\['X_psalm'\]` has no record .* pass `use_rep='X_psalm'`"):
        psalm.tl.propensity(raw, progress=False)
    psalm.tl.propensity(raw, use_rep={"a": "X_psalm"}, n_repeats=1, progress=False)


def test_a_representation_whose_record_was_lost_is_not_the_default(first):
    one = stack({name: anndata.concat([part[name] for part in halves(first)]) for name in first.mod})
    with pytest.raises(ValueError, match=r"has no record in .* copy the record"):
        psalm.tl.propensity(one, progress=False)
    for name in one.mod:
        one[name].uns["X_psalm"] = first[name].uns["X_psalm"]
    psalm.tl.propensity(one, n_repeats=1, progress=False, key_added="again")


def test_cells_joined_with_a_representation_of_the_users_own_are_refused(first, raw):
    """The columns that notes are in are lost, since the others have none."""
    raw["a"].obsm["X_psalm"] = raw["a"].X[:, :8].copy()
    both = anndata.concat([first["a"], raw["a"]], uns_merge="first")
    mdata = stack({"a": both, "b": first["b"].copy()})
    psalm.pp.treatment(mdata, "perturbation")
    with pytest.raises(ValueError, match="is not in the space whose record"):
        psalm.tl.propensity(mdata, progress=False)


def test_new_cells_in_the_space_of_a_reference_may_be_joined(first, second):
    new = second.copy()
    for name in new.mod:
        psalm.pp.represent(new, name, kind="features", reference=first)
    both = stack({name: anndata.concat([first[name], new[name]], uns_merge="first") for name in new.mod})
    psalm.pp.treatment(both, "perturbation")
    psalm.tl.propensity(both, n_repeats=1, progress=False)
    assert both.uns["propensity"]["params"]["use_rep"] == ["a: obsm['X_psalm']", "b: obsm['X_psalm']"]


def test_cells_scored_by_one_ensemble_may_be_joined(tmp_path):
    first, second = (named(psalm.datasets.simulated(n_cells=N_CELLS, rng=seed), str(seed)) for seed in range(2))
    for mdata in (first, second):
        psalm.pp.treatment(mdata, "perturbation", min_cells=1)
    psalm.tl.propensity(first, save=tmp_path / "m.skops", n_repeats=1, n_folds=2, progress=False)
    psalm.tl.score(second, tmp_path / "m.skops", progress=False)
    both = joined([first, second])
    psalm.pp.treatment(both, "perturbation", min_cells=1)
    psalm.tl.match(both, source="a", target="b", progress=False)
    assert psalm.get.coupling(both, exact=True).sum() == pytest.approx(1)
    assert psalm.get.propensity(both, "a").shape[0] == 2 * N_CELLS


@pytest.mark.parametrize("how", ["copy", "view", "subset", "h5mu", "zarr"])
def test_a_subset_keeps_its_results(how, first, tmp_path):
    exact = psalm.get.coupling(first, exact=True)
    whole = {name: list(first[name].obs_names) for name in first.mod}
    kept = first.obs_names[::2]
    with no_pull(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if how == "copy":
            part, kept = first.copy(), first.obs_names
        elif how == "view":
            part = first[kept]
        else:
            part = first[kept].copy()
        if how == "h5mu":
            part.write_h5mu(tmp_path / "part.h5mu")
            part = mudata.read_h5mu(tmp_path / "part.h5mu")
        if how == "zarr":
            part.write_zarr(tmp_path / "part.zarr")
            part = mudata.read_zarr(tmp_path / "part.zarr")
    found = psalm.get.coupling(part, exact=True)
    rows, columns = ([whole[name].index(cell) for cell in part[name].obs_names] for name in ("a", "b"))
    np.testing.assert_allclose(found.toarray(), exact[rows][:, columns].toarray(), rtol=1e-6)
    assert psalm.get.propensity(part, "a").shape[0] == psalm.get.predicted(part, "b").n_obs == len(rows)
    assert psalm.tl.evaluate(part, latent="latent", n_bootstrap=0)["n_pairs"].iloc[-1] >= 0
    for plot in ("embedding", "links", "coupling", "treatments", "propensity"):
        getattr(psalm.pl, plot)(part, show=False)
    plt.close("all")


def test_parts_of_one_run_joined_again(first):
    """Scores are whole again; stored entries between the parts are not, and potentials give them back."""
    again = joined(halves(first))
    assert psalm.get.propensity(again, "a").shape[0] == N_CELLS
    assert psalm.get.coupling(again, exact=True).sum() == pytest.approx(1, rel=1e-3)
    with pytest.raises(ValueError, match=r"has lost entries of .*Run `tl.match` again"):
        psalm.get.coupling(again)


def test_parts_of_one_run_joined_by_what_they_have_in_common(first):
    again = joined(halves(first), "same")
    assert psalm.get.coupling(again, exact=True).sum() == pytest.approx(1, rel=1e-3)


def test_cells_copied_after_matching_are_refused(first):
    twice = joined([first, renamed_copy(first)])
    with pytest.raises(ValueError, match=r"fewer cells than are here now: cells were added to the container after"):
        psalm.get.coupling(twice, exact=True)


def renamed_copy(mdata):
    found = mdata.copy()
    found.obs_names = [f"copy_{name}" for name in found.obs_names]
    return found


def test_renaming_cells_in_the_container_keeps_all_results(first):
    expected = psalm.get.coupling(first).toarray()
    again = renamed_copy(first)
    np.testing.assert_array_equal(psalm.get.coupling(again).toarray(), expected)
    assert psalm.get.propensity(again, "a").index[0].startswith("copy_")


def test_renaming_cells_of_a_modality_is_not_called_adding(first):
    again = first.copy()
    again["a"].obs_names = [f"z{name}" for name in again["a"].obs_names]
    with pytest.raises(
        ValueError, match=r"as many cells of 'a', under other names.*`mdata.obs_names = names`"
    ) as found:
        psalm.get.coupling(again)
    assert "added" not in str(found.value)


def test_labels_of_two_tables_are_counted(first, second):
    both = joined([first, second])
    with pytest.raises(ValueError, match=r"labels 120 cells, and the table .* counts 60.*Run `pp.treatment` again"):
        psalm.pl.treatments(both)


def test_a_column_of_the_users_own_is_not_overwritten(scored):
    scored["b"].obs["match_run"] = "sequenced on Monday"
    with pytest.raises(ValueError, match=r"obs`?\['match_run'\]` exists, was not written by `tl.match`"):
        psalm.tl.match(scored, source="a", target="b", progress=False)
