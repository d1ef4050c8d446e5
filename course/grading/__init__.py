"""Grading files that strangers wrote: `python3 -m course grade`.

The trusted process draws the cases, computes what is expected, judges and reports; it never parses, imports
or unpickles anything of a stranger's. A stranger's file runs in a confined child that gets inputs and sends
back values.

    intake    whose file is which, in whatever form an LMS hands them out
    stage     the folder that a child's process is made of: the checks' calls, and nothing that judges
    confine   resource limits, Landlock and seccomp, for the child
    zygote    the process that has imported torch already, and forks a monitor and a child per submission
    child     executes the submission and answers calls
    runner    the trusted end of it: time limits, restarts, what came back
    outcome   what came of one submission, and that as a subject for the verdict
    level     how well a child is confined on this machine, found out by trying
    marking   answers -> findings -> points
    flags     what a human should look at, by text search
    outputs   grades.csv, results, pages, report.html; gradebook fills the LMS's file
    grade     the verb: all of that for a folder of submissions, with resume
    release   the course as students get it; gradescope packs the autograder
"""
