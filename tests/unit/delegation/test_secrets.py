"""Which files are taken for secrets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from immunos_mcp.delegation.material import read_material
from immunos_mcp.delegation.secrets import holds_secret, is_secret_place
from immunos_mcp.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable

SECRET = """
.env .env.local .ENV .Env.Production prod.env .envrc .dev.vars .netrc _netrc .npmrc .pypirc .git-credentials
.claude/.credentials.json .claude.json .codex/auth.json .codex/config.toml .gemini/oauth_creds.json
.config/gh/hosts.yml .config/hub .config/glab-cli/config.yml .config/github-copilot/apps.json .docker/config.json
.dockercfg .aws/credentials .aws/config .azure/accessTokens.json .azure/msal_token_cache.json
.config/gcloud/application_default_credentials.json .config/gcloud/credentials.db .boto .s3cfg .oci/config
.kube/config kubeconfig prod.kubeconfig terraform.tfstate terraform.tfstate.backup prod.tfvars .terraformrc
.terraform.d/credentials.tfrc.json .pulumi/credentials.json .vault-token .ssh/id_rsa .ssh/config id_ed25519
deploy.pem server.KEY cert.p12 cert.pfx app.jks debug.keystore AuthKey_X.p8 krb5.keytab putty.ppk
.gnupg/secring.gpg secrets.yml secrets.json credentials.json client_secret_1.json service-account.json
.htpasswd .pgpass .my.cnf .mylogin.cnf passwords.kdbx vault.kdb login.keychain-db .password-store/x.gpg
.bash_history .zsh_history .python_history .psql_history .mysql_history .sqlite_history .rediscli_history
.node_repl_history .local/share/fish/fish_history .lesshst .viminfo .mozilla/firefox/x.default/logins.json
.mozilla/firefox/x/key4.db .mozilla/firefox/x/cookies.sqlite .config/google-chrome/Default/Preferences
.config/chromium/Default/History .config/BraveSoftware/x cookies.sqlite .cargo/credentials.toml
.gem/credentials .m2/settings.xml .gradle/gradle.properties .nuget/NuGet.Config .composer/auth.json
.config/rclone/rclone.conf .kaggle/kaggle.json .cache/huggingface/token .config/op/config wallet.dat
.config/filezilla/sitemanager.xml wp-config.php .databrickscfg .config/doctl/config.yaml .fly/config.yml
.flaskenv .env~ backup.env.txt .yarnrc.yml deploy_key gcp-key.json .wrangler/config/default.toml .netlify/config.json
.snowflake/config.toml .dbt/profiles.yml .condarc NuGet.Config .config/solana/id.json .config/sops/age/keys.txt key.txt
tailscaled.state wg0.conf .vagrant/machines/default/virtualbox/private_key .config/ngrok/ngrok.yml .argocd/config
google-services.json GoogleService-Info.plist local.settings.json appsettings.Production.json .copilot/config.json
.config/crush/crush.json .local/share/atuin/key .rclone.conf secring.asc .Xauthority .sentryclirc .pip/pip.conf
.subversion/auth/svn.simple/x .curlrc krb5cc_1000 .tsh/keys/x .doppler/.doppler.yaml .scw/config.yaml .civo.json
.config/heroku/x .config/stripe/config.toml .supabase/access-token claude_desktop_config.json .git/config .immunos/db/immunos.db.team-token
""".split()  # noqa: SIM905  # a list of so many quotes is hard to read

HARMLESS = """
.env.example .env.sample .env.template README.md src/keys.py src/tokens.py environment.yml package.json
docs/cookies.md history.md src/authentication.py settings.json accounts.py keys.md appsettings.json docs/private_keys.md curl.md .gitignore tsconfig.json Dockerfile passwd.py
""".split()  # noqa: SIM905  # a list of so many quotes is hard to read

KEY_BLOCKS = (
    "-----BEGIN RSA PRIVATE KEY-----\nMIIB", "-----BEGIN OPENSSH PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN PGP PRIVATE KEY BLOCK-----", "-----BEGIN ENCRYPTED PRIVATE KEY-----", "PuTTY-User-Key-File-3: x",
)  # fmt: skip
TOKENS = (
    "immunos_" + "a1-_" * 11, "ghp_" + "a1" * 18, "gho_" + "a1" * 18, "github_pat_" + "a1" * 15, "glpat-" + "a1" * 10,
    "sk-ant-api03-" + "a1" * 20, "sk-proj-" + "a1" * 20, "AKIA" + "A2" * 8, "AIza" + "a" * 35,
    "xoxb-" + "1234567890-a", "npm_" + "a1" * 18, "pypi-AgEIcHlwaS5vcmc" + "a1" * 30, "hf_" + "a1" * 17,
    "dckr_pat_" + "a1" * 12, "sk_live_" + "a1" * 12, "//registry.npmjs.org/:_authToken=" + "a1" * 10,
)  # fmt: skip


@pytest.mark.parametrize("path", SECRET)
def test_the_usual_places_of_secrets_are_known(path: str) -> None:
    # macOS takes a long s for an s.
    for written in (path, path.upper(), path.title(), path.replace("s", "\u017f")):
        assert is_secret_place(Path("/home/dev") / written)


@pytest.mark.parametrize("path", HARMLESS)
def test_other_files_are_not_taken_for_secrets(path: str) -> None:
    assert not is_secret_place(Path("/home/dev/project") / path)


@pytest.mark.parametrize("secret", [*KEY_BLOCKS, *TOKENS])
def test_a_secret_is_known_by_its_content(tmp_path: Path, secret: str) -> None:
    (tmp_path / "notes.txt").write_text(f"a line\nkey = '{secret}'\n", encoding="utf-8")
    (tmp_path / "other.txt").write_text("a line", encoding="utf-8")
    assert holds_secret(f"x={secret}".encode())
    with pytest.raises(InvalidInputError, match="without secrets; name this one with --allow-path"):
        read_material(["notes.txt"], (tmp_path,))
    assert read_material(["*.txt"], (tmp_path,)).left_out == 1
    assert read_material(["notes.txt"], (tmp_path, tmp_path / "notes.txt")).left_out == 0


def test_what_only_resembles_a_secret_is_none() -> None:
    texts: Iterable[str] = (
        "AKIAIOSFODNN7EXAMPLE", "-----BEGIN PUBLIC KEY-----", "-----BEGIN CERTIFICATE-----",
        "sk-" + "short", "the ghp_ prefix", "risk-ant-hill", "_authToken=${NPM_TOKEN}",
    )  # fmt: skip
    for text in texts:
        assert not holds_secret(text.encode())
