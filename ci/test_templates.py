# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks the files that other people's machines run: OSS-Fuzz's, and CI templates.

    test_templates.py

Nothing here is fetched or run. Each file has to parse, to say what its reader
demands, and to name only files and options that exist. Without PyYAML, or for
files that a test cannot know (an action's inputs), what is known is written
down below. Exit status 77: PyYAML is missing.
"""

import re
import subprocess
import sys
import unittest
from pathlib import Path

try:
    import yaml
except ImportError:
    print("SKIP yaml: PyYAML is missing; remedy: install python3-yaml")
    sys.exit(77)

SOURCE = Path(__file__).resolve().parents[1]
WORKFLOWS = SOURCE / ".github" / "workflows"

# Inputs of the actions that are used, as their documentation lists them.
ACTIONS = {
    "google/clusterfuzzlite/actions/build_fuzzers@v1": {
        "language", "github-token", "sanitizer", "upload-build", "storage-repo",
        "storage-repo-branch", "storage-repo-branch-coverage", "bad-build-check"},
    "google/clusterfuzzlite/actions/run_fuzzers@v1": {
        "language", "github-token", "sanitizer", "mode", "fuzz-seconds", "output-sarif",
        "storage-repo", "storage-repo-branch", "storage-repo-branch-coverage"},
    "github/codeql-action/upload-sarif@v3": {"sarif_file", "checkout_path", "category"},
    "actions/checkout@v4": {"repository", "ref", "path", "fetch-depth"},
    "actions/upload-artifact@v4": {"name", "path", "if-no-files-found"},
}
MODES = {"code-change", "batch", "prune", "coverage"}
JOB_KEYS = {"name", "runs-on", "needs", "permissions", "concurrency", "strategy", "steps",
            "timeout-minutes", "container", "if"}
GITLAB_KEYS = {"stage", "image", "services", "needs", "timeout", "rules", "variables", "extends",
               "parallel", "before_script", "script", "coverage", "artifacts", "cache"}
RELEVANT = {"migration", "include/migration", "io", "util/userfaultfd.c", "qapi/migration.json"}


def load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def workflows():
    return {path.name: load(path) for path in sorted(WORKFLOWS.glob("*.yml"))}


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


class OssFuzzTest(unittest.TestCase):
    def test_project(self):
        project = load(SOURCE / "oss-fuzz" / "project.yaml")
        self.assertEqual(set(project), {"homepage", "language", "main_repo", "primary_contact",
                                        "base_os_version", "fuzzing_engines", "sanitizers"})
        self.assertEqual(project["language"], "c")
        self.assertEqual(project["base_os_version"], "ubuntu-24-04")
        self.assertEqual(set(project["fuzzing_engines"]), {"libfuzzer", "afl", "honggfuzz"})
        self.assertEqual(set(project["sanitizers"]), {"address", "undefined"})
        self.assertRegex(project["primary_contact"], r"^\S+@\S+$")

    def test_docker_clones_what_the_project_names(self):
        project = load(SOURCE / "oss-fuzz" / "project.yaml")
        docker = (SOURCE / "oss-fuzz" / "Dockerfile").read_text()
        self.assertIn(f"git clone --depth 1 {project['main_repo']} $SRC/pagewise", docker)
        self.assertIn(f"base-builder:{project['base_os_version']}", docker)
        copied = re.search(r"^COPY (.*) \$SRC/$", docker, re.MULTILINE)[1].split()
        self.assertEqual(sorted(copied), ["build.sh", "run_tests.sh"])

    def test_apache_header(self):
        files = sorted((SOURCE / "oss-fuzz").iterdir())
        self.assertEqual([path.name for path in files],
                         ["Dockerfile", "build.sh", "project.yaml", "run_tests.sh"])
        for path in files:
            text = path.read_text()
            self.assertIn("SPDX-License-Identifier: Apache-2.0", text, path)
            self.assertIn("http://www.apache.org/licenses/LICENSE-2.0", text, path)

    def test_scripts(self):
        for path in (*(SOURCE / "oss-fuzz").glob("*.sh"),
                     SOURCE / ".clusterfuzzlite" / "build.sh"):
            subprocess.run(["bash", "-n", str(path)], check=True)
            self.assertTrue(path.stat().st_mode & 0o111, path)
            self.assertTrue(path.read_text().startswith("#!/bin/bash -eu\n"), path)

    def test_both_dockerfiles_install_the_same(self):
        packages = [re.search(r"no-install-recommends((?: \\\n +\S+)+)", path.read_text())[1]
                    for path in (SOURCE / "oss-fuzz" / "Dockerfile",
                                 SOURCE / ".clusterfuzzlite" / "Dockerfile")]
        self.assertEqual(packages[0], packages[1])
        self.assertLessEqual({"libglib2.0-dev", "ninja-build", "pkg-config"},
                             set(packages[0].replace("\\", "").split()))


class ClusterFuzzLiteTest(unittest.TestCase):
    def test_project_and_build(self):
        self.assertEqual(load(SOURCE / ".clusterfuzzlite" / "project.yaml"), {"language": "c"})
        script = (SOURCE / ".clusterfuzzlite" / "build.sh").read_text()
        (shared,) = re.findall(r"\$SRC/pagewise/(\S+?)\"", script)
        self.assertTrue((SOURCE / shared).exists(), shared)
        docker = (SOURCE / ".clusterfuzzlite" / "Dockerfile").read_text()
        self.assertIn("COPY . $SRC/pagewise", docker)
        self.assertIn("COPY .clusterfuzzlite/build.sh $SRC/build.sh", docker)

    def test_every_mode_has_a_job(self):
        github = {step["with"]["mode"] for workflow in workflows().values()
                  for step in steps(workflow) if "mode" in step.get("with", {})}
        self.assertEqual(github, MODES)
        text = (SOURCE / "ci" / "gitlab-clusterfuzzlite.yml").read_text()
        for mode in MODES:
            self.assertRegex(text, rf'MODE(: | == "){mode}')

    def test_sarif_is_published(self):
        own = steps(workflows()["cflite-code-change.yml"])
        self.assertTrue(any(step.get("with", {}).get("output-sarif") for step in own))
        self.assertTrue(any(step.get("uses", "").startswith("github/codeql-action/upload-sarif")
                            for step in own))


class GithubTest(unittest.TestCase):
    def test_form(self):
        for name, workflow in workflows().items():
            with self.subTest(name):
                # YAML 1.1 reads 'on' as true.
                self.assertEqual(set(workflow), {"name", True, "permissions", "jobs"})
                for job in workflow["jobs"].values():
                    self.assertLessEqual(set(job), JOB_KEYS)
                    self.assertIn("runs-on", job)

    def test_steps(self):
        for name, workflow in workflows().items():
            for step in steps(workflow):
                with self.subTest(f"{name}: {step.get('name')}"):
                    self.assertEqual("uses" in step, "run" not in step)
                    if "uses" in step:
                        self.assertLessEqual(set(step.get("with", {})), ACTIONS[step["uses"]])
                    else:
                        subprocess.run(["bash", "-n"], input=expand(step["run"]), text=True,
                                       check=True)

    def test_what_others_write_reaches_no_shell(self):
        """A title of a pull request is an environment variable, never text of a script."""
        for name, workflow in workflows().items():
            for step in steps(workflow):
                self.assertNotIn("${{", step.get("run", ""), f"{name}: {step.get('name')}")


def expand(script):
    return re.sub(r"\$\{\{.*?\}\}", "x", script)


class GitlabTest(unittest.TestCase):
    def jobs(self, name):
        content = load(SOURCE / "ci" / name)
        return {key: job for key, job in content.items() if key not in ("variables", "include")}

    def test_form(self):
        for name in ("gitlab-qemu.yml", "gitlab-clusterfuzzlite.yml"):
            jobs = self.jobs(name)
            for key, job in jobs.items():
                with self.subTest(f"{name}: {key}"):
                    self.assertLessEqual(set(job), GITLAB_KEYS)
                    if "extends" in job:
                        self.assertIn(job["extends"], jobs)
                    elif not key.startswith("."):
                        self.assertIn("script", job)
                    for line in (*job.get("before_script", ()), *job.get("script", ())):
                        subprocess.run(["bash", "-n"], input=line, text=True, check=True)

    def gate(self):
        return self.jobs("gitlab-qemu.yml")["pagewise-gate"]

    def test_gate_runs_for_what_is_under_test(self):
        (rule,) = self.gate()["rules"]
        self.assertEqual({path.replace("/**/*", "") for path in rule["changes"]}, RELEVANT)
        text = (WORKFLOWS / "qemu-gate.yml").read_text()
        for path in RELEVANT:
            self.assertRegex(text, rf'"{re.escape(path)}(/\*\*)?"')

    def test_gate_publishes_what_it_writes(self):
        reports = self.gate()["artifacts"]["reports"]
        script = (SOURCE / "ci" / "gate.py").read_text()
        for path in (reports["junit"], reports["coverage_report"]["path"]):
            self.assertIn(f'"{path.rpartition("/")[2]}"', script)
        match = re.search(self.gate()["coverage"].strip("/"),
                          "  migration/ram.c: inputs reach 500 of 900 lines (55.6 %)")
        self.assertEqual(match[1], "55.6")

    def test_gate_options_exist(self):
        known = subprocess.run([sys.executable, str(SOURCE / "ci" / "gate.py"), "--help"],
                               capture_output=True, text=True, check=True).stdout
        workflow = load(WORKFLOWS / "qemu-gate.yml")
        texts = [" ".join(self.gate()["script"])]
        texts += [step["run"] for step in steps(workflow) if "dev gate" in step.get("run", "")]
        self.assertEqual(len(texts), 2)
        for text in texts:
            options = re.findall(r"(--[a-z]+)", text.split("dev gate", 1)[1])
            self.assertIn("--qemu", options)
            for option in options:
                self.assertIn(option, known)


if __name__ == "__main__":
    unittest.main()
