"""The questions that are answered in words, and graded by a person."""

from practical.grading.exercise import Question

QUESTIONS: dict[str, Question] = {
    one.id: one
    for one in (
        Question("1.A", "Two squares, two maps", 2),
        Question("1.B", "A slope of zero", 2),
        Question("1.C", "Complete, and different", 2),
        Question("1.D", "A map that did not notice", 2),
        Question("1.E", "Which one is right?", 3),
        Question("2.A", "A number and its control", 2),
        Question("2.B", "Without collecting more", 2),
        Question("2.C", "Why clean images mend nothing", 2),
    )
}
