"""The exercises: the references and the solutions are right, and each known mistake is named."""

import functools
import re
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practical import check, predict
from practical.grading.exercise import Exercise
from practical.grading.exercises import EXERCISES, QUESTIONS
from practical.grading.submission import seed
from practical.grading.verdicts import judge
from tests.attacks.changes import mutate
from tests.attacks.messages import MESSAGES
from tests.attacks.mutants import MUTANTS
from tests.conftest import ROOT

SOURCES = {
    part: (ROOT / "notebooks" / f"{name}.py").read_text()
    for part, name in (("1", "ExplanationMethods"), ("2", "ModelBias"))
}
PROPERTIES = [
    (one.id, found.name) for one in EXERCISES.values() for found in (*one.properties, *one.hidden)
]
MISTAKES = [(one.id, mistake.name) for one in EXERCISES.values() for mistake in one.mistakes]


def solution(exercise: str) -> str:
    """Return the code of an exercise's solution, as it stands in the notebook's source."""
    name = EXERCISES[exercise].name
    source = SOURCES[exercise[0]]
    found = re.search(rf"^def {name}\(.*?### END SOLUTION\n", source, re.M | re.S)
    assert found, exercise
    return re.sub(r" *### (BEGIN|END) SOLUTION\n", "", found[0])


def written(exercise: str, code: str):
    """Return the function that some code defines, and a call of it."""
    namespace = {"jax": jax, "jnp": jnp, "np": np, "predict": predict}
    exec(code, namespace)
    one = EXERCISES[exercise]
    function = namespace[one.name]
    return function, lambda given: function(*one.in_order(given).values())


@functools.cache
def shared(exercise: str) -> Exercise:
    """Return an exercise of the same cases for all of its mutants, whose answers are kept.

    Only what is asked of the mutant differs from one to the next.
    """
    one = EXERCISES[exercise]
    cases = one.cases(np.random.default_rng(3))
    for value in [value for case in cases for value in case.values()]:
        if isinstance(value, np.ndarray):
            value.setflags(write=False)  # no mutant changes what the next one is asked

    def kept(answer: Callable) -> Callable:
        answers = {}

        def call(**given):
            # A case is asked about with its own objects, and any other question is refused here.
            (number,) = [
                number
                for number, case in enumerate(cases)
                if all(value is given[name] for name, value in case.items())
            ]
            if number not in answers:
                answers[number] = answer(**given)
            return answers[number]

        return call

    return replace(
        one,
        cases=lambda rng: cases,
        reference=kept(one.reference),
        mistakes=tuple(replace(mistake, answer=kept(mistake.answer)) for mistake in one.mistakes),
    )


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_solution_passes_in_the_notebook_and_in_the_grader(exercise, capsys):
    function, call = written(exercise, solution(exercise))
    for student in ("ann", "bob", "carl"):
        found = judge(EXERCISES[exercise], call, seed("secret", student, exercise), hidden=True)
        assert found == ("passed", "All checks passed.", ""), student
    assert check(exercise, function) is function
    words = f"✔ {exercise} {EXERCISES[exercise].name}: Public checks passed.\n"
    assert capsys.readouterr().out == words


@pytest.mark.parametrize(("exercise", "name"), PROPERTIES)
def test_a_property_holds_for_the_right_answer_and_for_no_other(exercise, name):
    one = EXERCISES[exercise]
    (asked,) = [found for found in (*one.properties, *one.hidden) if found.name == name]
    calls = []

    def right(given):
        calls.append(given)
        return np.asarray(one.reference(**given))

    assert asked.holds(right, np.random.default_rng(1))
    before = len(calls) - 1  # only the last call is wrong: where there are two, they disagree

    def wrong(given):
        found = right(given)
        return found if len(calls) <= before else 2 * found + 1

    calls.clear()
    assert not asked.holds(wrong, np.random.default_rng(1))


def test_a_relation_catches_an_answer_that_is_right_only_in_the_cases():
    one = EXERCISES["1.9"]

    def area(given):
        return one.reference(given["fractions"], np.clip(given["scores"], 0, 1))

    assert judge(one, area, np.random.default_rng(0)).status == "passed"
    found = judge(one, area, np.random.default_rng(0), hidden=True)
    assert found == ("wrong", f"Not linear in the scores: {one.hidden[0].hint}", "")


def test_every_mistake_has_a_mutant():
    found = [(exercise, name) for exercise, some in MUTANTS.items() for name in some]
    assert sorted(MISTAKES) == sorted(found)


@pytest.mark.parametrize(("exercise", "mistake"), MISTAKES)
def test_a_mistake_is_called_by_its_name(exercise, mistake):
    one = shared(exercise)
    changed = mutate(solution(exercise), MUTANTS[exercise][mistake])
    found = judge(one, written(exercise, changed)[1], np.random.default_rng(3), hidden=True)
    hint = next(m.hint for m in one.mistakes if m.name == mistake)
    assert found == ("wrong", f"This looks like {mistake}. {hint}", mistake)


@pytest.mark.parametrize(("exercise", "words", "changes"), MESSAGES)
def test_a_message_says_what_to_do(exercise, words, changes, capsys):
    returned = check(exercise, written(exercise, mutate(solution(exercise), changes))[0])
    message = capsys.readouterr().out
    assert words in message
    reference = EXERCISES[exercise].reference
    assert (returned is reference) == ("It raised " in message)


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_notebook_says_what_the_exercise_is_worth(exercise):
    one = EXERCISES[exercise]
    stars = "★" * one.difficulty + "☆" * (3 - one.difficulty)
    text = SOURCES[exercise[0]]
    place = text.index(f"# ### Exercise {one.id}: ")
    below = text[place : place + 400]
    assert f"**{one.points} points · {stars} · {one.minutes} minutes**" in below
    assert text.index(f"def {one.name}(", place) < text.index(
        f'{one.name} = check("{one.id}", {one.name})'
    )


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_notebook_says_what_to_do_and_what_to_see(exercise):
    here, *later = re.split(r"(?=# ### Exercise )", SOURCES[exercise[0]].partition(
        f"# ### Exercise {exercise}: ")[2])  # fmt: skip
    asked = here[: here.index("\n# %%\n")]
    assert len(re.findall(r"^# \d\. ", asked, re.M)) >= 2
    assert asked.count("<summary>Hint ") >= 2
    if "The figure after the next exercise shows what you should see." in asked:
        here += later[0]
    assert "**What you should see.**" in here


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_notebook_asks_the_questions(question):
    text = SOURCES[question[0]]
    assert f"**Question {question} ({QUESTIONS[question].points} points).**" in text
    answer = re.search(rf"<!-- answer {question} -->\n#\n# ### BEGIN SOLUTION\n", text)
    assert answer


def test_hints_say_nothing_of_the_code_and_are_sentences():
    for one in EXERCISES.values():
        for words in [one.hint, *(m.hint for m in one.mistakes), *(p.hint for p in one.hidden)]:
            assert words.endswith("."), words
            assert "  " not in words
