"""Which files probably hold secrets: by name, by place and by content. Pure.

The lists are for files that a delegated task would otherwise send to a model. Whoever needs such a file
allows it by its own name (``--allow-path``). Case is ignored as file systems do.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = frozenset(
    {".env.example", ".env.sample", ".env.template", ".env.dist", ".env.defaults", "example.env"}
)
"""Names that look like secrets and are made to be shared."""

NAMES = (
    # environments
    ".env", ".env.*", ".env-*", ".env_*", "*.env", ".envrc", ".envrc.*", ".dev.vars",
    ".flaskenv", ".env~", "*.env.txt", "*.env.bak", "local.settings.json", "appsettings.production.json",
    "appsettings.development.json", "application-prod.properties", "application-prod.y*ml",
    # keys and certificates with keys
    "*.pem", "*.key", "*.p8", "*.p12", "*.pfx", "*.pkcs12", "*.ppk", "*.jks", "*.bks", "*.keystore",
    "*.keytab", "*.jwk", "*.jwks", "*.snk", "*.ovpn", "*.gpg", "*.kbx", "id_rsa*", "id_dsa*",
    "id_ecdsa*", "id_ed25519*", "ssh_host_*_key", "wallet.dat", "*.wallet", "deploy_key", "secring.*",
    "private.asc", "*private_key", "*private-key", "*_key.txt", "key.txt", "keys.txt", "wg[0-9].conf",
    "krb5cc_*", ".xauthority", ".iceauthority", "*.tox",
    # password databases
    "*.kdb", "*.kdbx", "*.psafe3", "*.opvault", "*.agilekeychain", "*.1pux", "*.1pif", "*.keychain",
    "*.keychain-db", "*.kwallet", "*.enpassdb", "passwords", "passwords.txt", "passwords.csv",
    "password.txt", "shadow", "gshadow", "master.passwd", ".htpasswd", "htpasswd",
    # tokens and credentials of programs
    "credentials", "credentials.*", "*credentials.json", "*credentials.xml", ".credentials*",
    "secret", "secret.json", "secret.txt", "secret.y*ml", "secrets", "secrets.*", "*.secret",
    "*.secrets", "*-secret.y*ml", "*-secrets.y*ml", "token", "token.json", "token.txt", "token.pickle",
    "tokens.json", "*.token", "*.team-token", ".token*", "access_token", "access_token.json", "access_token.txt",
    "access-token", "auth.json", "auth.toml", "oauth_creds.json", "oauth_token*", "google_accounts.json",
    "client_secret*.json", "service-account*.json", "service_account*.json", "serviceaccount*.json",
    "*-firebase-adminsdk-*.json", "access_tokens.db", "msal_token_cache*", "accesstokens.json",
    "azureprofile.json", ".netrc", "_netrc", ".npmrc", ".pypirc", ".yarnrc", ".git-credentials",
    ".gitcookies", ".pgpass", "pgpass.conf", ".my.cnf", ".mylogin.cnf", ".s3cfg", ".boto",
    ".dockercfg", ".dockerconfigjson", ".databrickscfg", ".vault-token", ".vault_pass*", "vault_pass*",
    ".vault-password*", ".terraformrc", "terraform.rc", "rclone.conf", "kaggle.json", ".rediscli_auth",
    ".msmtprc", ".fetchmailrc", ".muttrc", ".esmtprc", ".ftpconfig", "sftp-config.json", "sftp.json",
    "sitemanager.xml", "recentservers.xml", "filezilla.xml", "winscp.ini", "wp-config.php",
    ".claude.json", ".claude.json.*", "claude_desktop_config.json", ".cloudflared.json", ".yarnrc.yml",
    ".condarc", "pip.conf", "pip.ini", "nuget.config", "gcp-key*.json", "google-services.json",
    "googleservice-info.plist", ".sentryclirc", ".ossutilconfig", ".transifexrc", ".rclone.conf",
    ".offlineimaprc", ".lftprc", ".wgetrc", ".curlrc", ".hgrc", ".twurlrc", ".htdigest", ".consul-token",
    ".nomad-token", ".infisical.json", ".doppler.yaml", ".civo.json", ".vultr-cli.y*ml", ".linode-cli",
    ".aider.conf.yml", "dump.rdb", "tailscaled.state", "accounts.xml", ".fdb.cluster",
    # clusters and state
    "kubeconfig", "kubeconfig.*", "*.kubeconfig", "*.tfstate", "*.tfstate.*", "*.tfvars",
    "*.tfvars.json", "*.tfplan",
    # histories
    ".history", ".*_history", ".*-history", "bash_history", "zsh_history", "fish_history",
    "psql_history", "mysql_history", "sqlite_history", "consolehost_history.txt", ".dbshell",
    ".lesshst", ".viminfo", ".python_history*", ".wget-hsts",
    # browsers
    "login data*", "web data*", "cookies", "cookies-journal", "cookies.sqlite*", "cookies.txt",
    "logins.json", "logins-backup.json", "key3.db", "key4.db", "signons.sqlite", "places.sqlite*",
    "formhistory.sqlite*", "*.cookies", "cookies.binarycookies",
)  # fmt: skip
"""Patterns of file names."""

FOLDERS = frozenset({
    ".ssh", ".aws", ".gnupg", ".kube", ".docker", ".azure", ".oci", ".aliyun", ".bluemix", ".gcloud",
    ".terraform.d", ".pulumi", ".chef", ".fly", ".snowsql", ".databricks", ".supabase", ".railway",
    ".password-store", ".lpass", ".putty", ".pki", ".mozilla", ".thunderbird", ".electrum", ".bitcoin",
    ".ethereum", ".kaggle", ".huggingface", ".openai", ".anthropic", ".gem", ".sqlcl", "keyrings",
    ".vagrant", ".step", ".tsh", ".doppler", ".ngrok", ".ngrok2", ".wrangler", ".netlify", ".snowflake",
    ".dbt", ".heroku", ".ibmcloud", ".scw", ".circleci", ".rancher", ".argocd", ".influxdbv2", ".purple",
    ".irssi", ".tailscale", ".dropbox", ".jira.d", ".akeyless", ".boundary", ".grok", ".factory", ".copilot",
    "keychains", "google-chrome", "bravesoftware", "microsoft-edge", "tcloud",
})  # fmt: skip
"""Folders that hold little else, wherever they are."""

PLACES = (
    "*/.config/gcloud/*", "*/.config/gh/*", "*/.config/hub", "*/.config/glab-cli/*", "*/.config/op/*",
    "*/.config/github-copilot/*", "*/.config/doctl/*", "*/.config/heroku/*", "*/.config/stripe/*",
    "*/.config/configstore/*", "*/.config/netlify/*", "*/.config/rclone/*", "*/.config/filezilla/*",
    "*/.config/chromium/*", "*/.config/vivaldi/*", "*/.config/opera/*", "*/.config/1password/*",
    "*/.config/bitwarden*", "*/.config/keybase/*", "*/.config/pypoetry/auth.toml", "*/.config/uv/*",
    "*/.config/git/credentials", "*/.config/containers/auth.json", "*/.config/helm/*",
    "*/.config/anthropic/*", "*/.config/openai/*", "*/.config/linode-cli", "*/.config/hcloud/*",
    "*/.local/share/com.vercel.cli/*", "*/.local/share/opencode/*", "*/.local/share/uv/credentials/*",
    "*/.config/solana/*", "*/.config/sops/*", "*/.config/age/*", "*/.config/ngrok/*", "*/.config/slack*",
    "*/.config/argocd/*", "*/.config/jira/*", "*/.config/scw/*", "*/.config/exoscale/*", "*/.config/lftp/*",
    "*/.config/.wrangler/*", "*/.config/teleport/*", "*/.config/atuin/*", "*/.local/share/atuin/key",
    "*/.config/amp/*", "*/.config/crush/*", "*/.config/goose/secrets*", "*/.config/zed/settings.json",
    "*/.config/pulse/cookie", "*/.config/mc/hotlist", "*/.config/nix/netrc", "*/.helm/repository.y*ml",
    "*/.local/share/jupyter/runtime/*", "*/.ipython/*/history.sqlite", "*/.subversion/auth/*",
    "*/.ansible/vault*", "*/.cisco/*", "*/etc/wireguard/*", "*/.opvault/*", "*.opvault/*",
    "*/.cache/huggingface/token", "*/.cache/huggingface/stored_tokens", "*/.codex/config.toml",
    "*/.gemini/*.json", "*/.qwen/*.json", "*/.continue/config.*", "*/.claude/projects/*",
    "*/.m2/settings*.xml", "*/.gradle/gradle.properties", "*/.nuget/nuget.config",
    "*/nuget/nuget.config", "*/.git/config", "*/gh/hosts.yml", "*/github cli/hosts.yml",
    "*/.jupyter/*", "*/.streamlit/secrets.toml", "*/.composer/auth.json", "*/.bundle/config",
    "*/application support/google/chrome*", "*/application support/firefox/*",
    "*/application support/chromium/*", "*/application support/bitwarden*",
    "*/application support/code/user/globalstorage/*", "*/mozilla/firefox/*", "*/.cursor/mcp.json",
    "/etc/ssl/private/*", "/etc/sudoers*", "/proc/*",
)  # fmt: skip
"""Patterns of whole paths."""

_TOKENS = re.compile(
    rb"""-----BEGIN\ [A-Z0-9 ]{0,40}PRIVATE\ KEY(?:\ BLOCK)?-----
    | PuTTY-User-Key-File-[0-9]
    | "private_key"\s{0,9}:\s{0,9}"-----BEGIN
    | \b(?:
        gh[oprsu]_[A-Za-z0-9]{36} | github_pat_[A-Za-z0-9_]{22}      # GitHub
        | gl(?:pat|ptt|rt|dt|soat|ft|cbt)-[A-Za-z0-9_-]{20}            # GitLab
        | sk-ant-[A-Za-z0-9_-]{20} | sk-proj-[A-Za-z0-9_-]{20} | sk-[A-Za-z0-9]{40}
        | (?:AKIA|ASIA)[0-9A-Z]{16}\b(?<!EXAMPLE)                      # AWS
        | AIza[0-9A-Za-z_-]{35} | ya29\.[0-9A-Za-z_-]{20} | GOCSPX-[0-9A-Za-z_-]{20}
        | xox[abeoprs]-[0-9A-Za-z-]{10} | xapp-[0-9]-[0-9A-Z]{8}       # Slack
        | immunos_[A-Za-z0-9_-]{43}
        | npm_[A-Za-z0-9]{36} | pypi-AgE[A-Za-z0-9_-]{50} | dckr_(?:pat|oat)_[A-Za-z0-9_-]{20}
        | hf_[A-Za-z0-9]{34} | [rs]k_live_[0-9A-Za-z]{20} | whsec_[0-9A-Za-z+/]{32}
        | SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43} | do[opr]_v1_[a-f0-9]{64} | shp(?:at|ca|pa|ss)_[a-f0-9]{32}
        | glsa_[A-Za-z0-9]{32} | hv[bs]\.[A-Za-z0-9_-]{24} | ATATT3[A-Za-z0-9_=-]{50}
        | lin_api_[A-Za-z0-9]{40} | nvapi-[A-Za-z0-9_-]{60} | gsk_[A-Za-z0-9]{50} | r8_[A-Za-z0-9]{37}
        | xai-[A-Za-z0-9]{60} | tskey-[a-z]{2,10}-[A-Za-z0-9-]{20} | AGE-SECRET-KEY-1[A-Z0-9]{50}
    )
    | (?:_authToken|npmAuthToken)["']?\s{0,9}[=:]\s{0,9}["']?[A-Za-z0-9_+/=-]{20}
    """,
    re.VERBOSE,
)


def is_secret_place(file: Path) -> bool:
    """Return whether a file, by its whole path, usually holds secrets."""
    path = str(file).casefold()
    name = file.name.casefold()
    return (
        (name not in EXAMPLES and any(fnmatchcase(name, pattern) for pattern in NAMES))
        or any(part.casefold() in FOLDERS for part in file.parts)
        or any(fnmatchcase(path, pattern) for pattern in PLACES)
    )


def holds_secret(content: bytes) -> bool:
    """Return whether content has a private key, or a token in one of the common formats."""
    return _TOKENS.search(content) is not None
