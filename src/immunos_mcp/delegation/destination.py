"""Where a task's result may go: a new file that no other program obeys."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from immunos_mcp.delegation.safe_files import AllowedPaths, opened_folder, resolved
from immunos_mcp.errors import InvalidInputError, Problem
from immunos_mcp.rules.names import is_printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from immunos_mcp.delegation.safe_files import Place

OBEYED_FILES = (
    # instructions of agents, and their servers
    "claude*.md", "agents*.md", "agent.md", "gemini.md", "qwen.md", "warp.md", "crush.md", "skill.md",
    "copilot-instructions.md", "*.instructions.md", "*.prompt.md", "*.mdc", "mcp.json", "mcp_config.json",
    "mcp_settings.json", "claude_desktop_config.json", "opencode.json*",
    "crush.json", "llxprt.md", "conventions.md",
    # build files, which builds and editors run
    "makefile*", "gnumakefile", "*.mk", "*.mak", "justfile", "taskfile*.y*ml", "rakefile", "gemfile*",
    "*.gemspec", "gulpfile*", "gruntfile*", "jakefile*", "package.json", "*.gradle", "*.gradle.kts",
    "gradlew", "mvnw", "pom.xml", "build.xml", "cmakelists.txt", "*.cmake", "cmakepresets.json",
    "cmakeuserpresets.json", "meson.build", "build.ninja", "sconstruct", "sconscript", "wscript",
    "build", "build.bazel", "workspace", "workspace.bazel", "module.bazel", "*.bzl", "build.rs",
    "cargo.toml", "setup.py", "setup.cfg", "pyproject.toml", "tox.ini", "noxfile.py", "conftest.py",
    "pytest.ini", "sitecustomize.py", "usercustomize.py", "*.pth", "tasks.py", "fabfile.py", "dodo.py",
    "*.config.js", "*.config.?js", "*.config.ts", "*.config.?ts", "*.conf.js", "composer.json",
    "deno.json*", "bunfig.toml", "*.sln", "*.?sproj", "*.vbproj", "*.vcxproj", "*.props", "*.targets",
    "*.nix", "tiltfile", "earthfile", "lefthook.y*ml", "lint-staged*", "mix.exs", "rebar.config",
    "podfile", "package.swift", "build.sbt", "project.clj", "stack.yaml", "berksfile", "metadata.rb",
    "brewfile", "dune", "dune-project", "ivy.xml", "phpunit.xml*", "artisan", "manage.py", "pavement.py",
    "premake?.lua", "xmake.lua", "go.mod", "go.work", "tsconfig*.json", "pnpm-workspace.yaml",
    "lerna.json", "nx.json", "turbo.json", "bun.lockb", "gatsby-*.js", "renovate.json*",
    "requirements*.txt",
    # containers, clouds and CI
    "*.tf", "*.tf.json", "terragrunt.hcl", "ansible.cfg", "chart.yaml", "wrangler.toml", "firebase.json",
    "render.yaml", "app.yaml",
    "dockerfile*", "*.dockerfile", "containerfile*", "docker-compose*", "compose*.y*ml", "vagrantfile",
    "procfile*", "jenkinsfile*", "azure-pipelines*", "bitbucket-pipelines*", "appveyor.y*ml",
    "cloudbuild.y*ml", "buildspec.y*ml", "circle.y*ml", "wercker.y*ml", "codemagic.y*ml",
    "netlify.toml", "vercel.json", "fly.toml", "serverless.*", "skaffold.y*ml", "action.y*ml",
    # editors, desktops and shells
    "tasks.json", "launch.json", "settings.json", "*.code-workspace", "*.sublime-project",
    "*.sublime-settings", "*.desktop", "*.service", "*.timer", "*.socket", "*.plist", "*.lnk", "*.url",
    "*.scpt", "*.command", "*.workflow", "autorun.inf", "desktop.ini", "web.config", "crontab",
    "authorized_keys*", "known_hosts", "sshd_config", "ssh_config", "config.fish", "*profile.ps1",
    "sudoers", "session.vim", "*.reg", "*.hta", "*.vbs", "*.scr",
)  # fmt: skip
"""Patterns of the names of files that programs run or follow when they find them."""

OBEYED_FOLDERS = frozenset({
    "node_modules", "site-packages", "__pycache__", "hooks", "launchagents", "launchdaemons",
    "cron.d", "cron.daily", "cron.hourly", "cron.weekly", "cron.monthly", "init.d", "systemd", "autostart",
})  # fmt: skip
"""Folders whose files programs run; those with a leading dot are refused altogether."""


def check_output(path: str, allowed: Sequence[Path]) -> Place:
    """Return the place for a result: a new file, in an existing allowed folder.

    Args:
        path: the file, relative to the first allowed folder unless absolute.
        allowed: folders, and files that may be created whatever their names are.

    Raises:
        InvalidInputError: the path is anything else.
    """
    field = "output_path"
    paths = AllowedPaths(allowed, field)
    whole = paths.whole(path, field)
    file = resolved(whole.parent) / whole.name
    place = paths.place_of(file)
    expected = None
    if place is None:
        expected = f"a file inside an allowed folder: {paths.listed()}"
    elif not place.parts or os.path.lexists(file):
        expected = "a new file; this one exists"
    elif not _is_folder(place):
        expected = "a file in an existing folder"
    elif not place.is_named and is_obeyed(place):
        expected = "a file that no other program runs or follows, such as result.md"
    if place is None or expected is not None:
        raise InvalidInputError(Problem(field, path, expected or ""))
    return place


def is_obeyed(place: Place) -> bool:
    """Return whether other programs may run or follow a file because of its name or place."""
    names = [part.casefold() for part in place.parts]
    folders = {part.casefold() for part in place.path.parent.parts}
    return (
        any(name.startswith(".") or not is_printable(name) for name in names)
        or any(part in OBEYED_FOLDERS for part in folders)
        or any(part in _DOTTED for part in folders)
        or any(fnmatchcase(names[-1], pattern) for pattern in OBEYED_FILES)
    )


_DOTTED = frozenset({".git", ".claude", ".cursor", ".vscode", ".idea", ".github", ".ssh", ".codex"})
"""Folders with a leading dot whose files are obeyed even where the folder itself was allowed."""


def _is_folder(place: Place) -> bool:
    try:
        with opened_folder(place.root, place.parts[:-1]):
            return True
    except OSError:
        return False
