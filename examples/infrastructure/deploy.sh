#!/bin/bash
# Everything that backups with pg-backup-action need, in one AWS account, and the workflows to commit.
#
#   examples/infrastructure/deploy.sh --repository acme/shop --database shop \
#     --host db.example.org --login password --email oncall@example.org >workflows.yml
#
# It deploys the stacks of this folder with the AWS CLI, in order, and hands the outputs of each to
# the next. What is there is updated, and left alone where nothing has changed, so run it again
# whenever you like; a parameter that is not given keeps its value. It deletes nothing. Commands are
# printed as they run (stderr), the workflows at the end (stdout).
#
# It needs the AWS CLI, and credentials of somebody who may make the stacks.
#
# What stands in single quotes is for GitHub, or for the reader's shell:
# shellcheck disable=SC2016
set -euo pipefail
export AWS_PAGER="" # the CLI's version 2 would wait for a key
folder=$(cd "$(dirname "$0")" && pwd)

usage() {
  cat <<'END'
usage: deploy.sh --repository OWNER/NAME --database NAME [options]

  --repository OWNER/NAME      the repository whose workflows make the backups
  --repository-ids IDS         its form with ids, OWNER@12/NAME@34, which tokens of repositories made
                               or renamed since July 2026 have; without it that form is not trusted
  --subject SUBJECT            what of it may assume the roles (ref:refs/heads/main)
  --region REGION              where all this is made (AWS_REGION, or the CLI's own setting)
  --name PREFIX                what the stacks' names begin with (pg-backup)

  --database NAME              the database
  --host HOST, --port PORT     where it is
  --user USER                  who reads it (backup)
  --login iam|password         how: by a token of RDS, or a password in a secret; needs --host.
                               Without it the workflow takes the secret BACKUP_PASSWORD of GitHub
  --resource-id ID             for iam: DbiResourceId or DbClusterResourceId
  --db-instance IDENTIFIER     the RDS instance, for snapshots: by AWS Backup (once it has the tag
                               pg-backup=true), and by the operator, a role for workflows of the
                               environment production

  --bucket NAME                (pg-backup-archival-bucket-ACCOUNT-REGION)
  --prefix PREFIX              (postgresql)
  --lock-days DAYS             Object Lock in governance mode; best from the bucket's beginning
  --replica-region REGION      a second region, where S3 copies every backup to
  --email ADDRESS              who is told when a backup fails, or does not come
END
}

fail() {
  printf 'deploy.sh: %s\n' "$*" >&2
  exit 2
}

repository="" repository_ids="" subject=""
region=${AWS_REGION:-${AWS_DEFAULT_REGION:-}} name=pg-backup
database="" host="" port="" user="" login="" resource_id="" db_instance=""
bucket="" prefix="" lock_days="" replica_region="" email=""
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help)
      usage
      exit 0
      ;;
  esac
  [ $# -gt 1 ] || fail "$1 needs a value; see --help"
  case $1 in
    --repository) repository=$2 ;;
    --repository-ids) repository_ids=$2 ;;
    --subject) subject=$2 ;;
    --region) region=$2 ;;
    --name) name=$2 ;;
    --database) database=$2 ;;
    --host) host=$2 ;;
    --port) port=$2 ;;
    --user) user=$2 ;;
    --login) login=$2 ;;
    --resource-id) resource_id=$2 ;;
    --db-instance) db_instance=$2 ;;
    --bucket) bucket=$2 ;;
    --prefix) prefix=$2 ;;
    --lock-days) lock_days=$2 ;;
    --replica-region) replica_region=$2 ;;
    --email) email=$2 ;;
    *) fail "what is $1? See --help" ;;
  esac
  shift 2
done
[ -n "$repository" ] || fail "--repository is missing; see --help"
[ -n "$database" ] || fail "--database is missing; see --help"
[ -z "$login" ] || [ -n "$host" ] || fail "--login needs --host: the secret, or the policy, names it"
command -v aws >/dev/null || fail "the AWS CLI is not here: https://docs.aws.amazon.com/cli/"
[ -n "$region" ] || region=$(aws configure get region) || fail "--region is missing"
[ "$replica_region" != "$region" ] || fail "--replica-region must be another region than $region"

# deploy REGION STACK TEMPLATE [PARAMETER=VALUE...]; a parameter without a value is left out.
deploy() {
  local place=$1 stack=$2 template=$3 each given=()
  shift 3
  for each in "$@"; do
    [ -z "${each#*=}" ] || given+=("$each")
  done
  local command=(aws cloudformation deploy --region "$place" --stack-name "$stack"
    --template-file "$folder/$template" --capabilities CAPABILITY_NAMED_IAM
    --no-fail-on-empty-changeset)
  [ "${#given[@]}" -eq 0 ] || command+=(--parameter-overrides "${given[@]}")
  {
    printf '\n$'
    printf ' %q' "${command[@]}"
    printf '\n'
  } >&2
  "${command[@]}" >&2 && return
  printf '\n%s was not deployed. Why, the last first:\n' "$stack" >&2
  aws cloudformation describe-stack-events --region "$place" --stack-name "$stack" --output text \
    --query "StackEvents[?ends_with(ResourceStatus, 'FAILED')].[LogicalResourceId, ResourceStatusReason]" \
    >&2 || true
  case $(aws cloudformation describe-stacks --region "$place" --stack-name "$stack" \
    --output text --query 'Stacks[0].StackStatus' 2>/dev/null) in
    # Such a stack takes no second deploy: it was never there.
    ROLLBACK_*)
      {
        printf '\nBefore you run this again, take away what is left of it; and by hand the empty bucket,\n'
        printf 'if its events say DELETE_SKIPPED, for its name is taken:\n\n'
        printf '  aws cloudformation delete-stack --region %q --stack-name %q\n' "$place" "$stack"
      } >&2
      ;;
  esac
  return 1
}

# The outputs of a stack, a line each: the name, a tab, the value.
outputs() {
  aws cloudformation describe-stacks --region "$1" --stack-name "$2" --output text \
    --query 'Stacks[0].Outputs[].[OutputKey, OutputValue]'
}

# value OUTPUTS NAME
value() { awk -F '\t' -v name="$2" '$1 == name { print $2 }' <<<"$1"; }

# GitHub's provider can be but once in an account. Where another made it, its ARN is given on; where
# the stack did, it must go on making it, for an update would take it away.
foreign_provider() {
  local there ours=""
  there=$(aws iam list-open-id-connect-providers --output text --query \
    "OpenIDConnectProviderList[?ends_with(Arn, '/token.actions.githubusercontent.com')].Arn") ||
    return
  case " $stacks " in
    *" $1 "*)
      ours=$(aws cloudformation list-stack-resources --region "$region" --stack-name "$1" \
        --output text --query \
        "StackResourceSummaries[?ResourceType=='AWS::IAM::OIDCProvider'].PhysicalResourceId") ||
        return
      ;;
  esac
  [ "$there" = "$ours" ] || printf '%s' "$there"
}

word=${database//[^A-Za-z0-9]/-}
stacks=$(aws cloudformation describe-stacks --region "$region" --output text \
  --query "join(' ', Stacks[].StackName)")
stacks=${stacks//$'\n'/ } # as text, each page of the answer is a line
case " $stacks " in
  *" $name-monitoring-$word "*) ;;
  *" $name-roles "*) fail "the roles of $name-roles are for another database; see More databases in README.md" ;;
esac

replica_bucket="" replica_key=""
if [ -n "$replica_region" ]; then
  # S3 replicates a bucket with Object Lock to none but another with Object Lock.
  deploy "$replica_region" "$name-replica" replication.yaml "Prefix=$prefix" \
    "ObjectLockMode=${lock_days:+GOVERNANCE}" "ObjectLockDays=$lock_days"
  replica=$(outputs "$replica_region" "$name-replica")
  replica_bucket=$(value "$replica" ReplicaBucket) replica_key=$(value "$replica" KmsKeyId)
fi

deploy "$region" "$name-storage" storage.yaml "Bucket=$bucket" "Prefix=$prefix" \
  "ObjectLockMode=${lock_days:+GOVERNANCE}" "ObjectLockDays=$lock_days" \
  "ReplicaBucket=$replica_bucket" "ReplicaKmsKeyArn=$replica_key"
storage=$(outputs "$region" "$name-storage")
bucket=$(value "$storage" Bucket) prefix=$(value "$storage" Prefix) key=$(value "$storage" KmsKeyId)

deploy "$region" "$name-monitoring-$word" monitoring.yaml \
  "Database=$database" "Bucket=$bucket" "Email=$email"
monitoring=$(outputs "$region" "$name-monitoring-$word")
topic=$(value "$monitoring" SnsTopicArn) namespace=$(value "$monitoring" CloudwatchNamespace)

secret="" login_arn=""
if [ -n "$login" ]; then
  deploy "$region" "$name-access-$word" database-access.yaml "Database=$database" "Host=$host" \
    "Port=$port" "User=$user" "Login=$login" "ResourceId=$resource_id"
  access=$(outputs "$region" "$name-access-$word")
  user=$(value "$access" User)
  secret=$(value "$access" PasswordSecretId) login_arn=$(value "$access" LoginArn)
fi

vault="" service_role=""
if [ -n "$db_instance" ]; then
  deploy "$region" "$name-aws-backup" aws-backup.yaml "TopicArn=$topic"
  aws_backup=$(outputs "$region" "$name-aws-backup")
  vault=$(value "$aws_backup" BackupVault) service_role=$(value "$aws_backup" ServiceRole)
fi

provider=$(foreign_provider "$name-roles")
deploy "$region" "$name-roles" github-oidc.yaml \
  "Repository=$repository" "RepositoryIds=$repository_ids" "TrustedSubject=$subject" \
  "OidcProviderArn=$provider" \
  "Bucket=$bucket" "Prefix=$prefix" "KmsKeyArn=$key" "TopicArn=$topic" \
  "CloudwatchNamespace=$namespace" \
  "ReplicaBucket=$replica_bucket" "ReplicaKmsKeyArn=$replica_key" \
  "PasswordSecretArn=$secret" "LoginArn=$login_arn" \
  "DbInstance=$db_instance" "BackupVault=$vault" "BackupServiceRoleArn=$service_role"
roles=$(outputs "$region" "$name-roles")
writer=$(value "$roles" WriterRole)

# A text as YAML has it: what would be taken for something else is quoted.
written() {
  local quote="'"
  case $1 in
    '${{ '*) printf '%s' "$1" ;;
    *[!A-Za-z0-9_./:@-]* | [!A-Za-z]* | *: | [Tt]rue | TRUE | [Ff]alse | FALSE | [Nn]ull | NULL)
      printf '%s' "'${1//$quote/$quote$quote}'"
      ;;
    *) printf '%s' "$1" ;;
  esac
}

# inputs NAME VALUE...: lines below `with:`; an input without a value is left out.
inputs() {
  while [ $# -gt 0 ]; do
    [ -z "$2" ] || printf '          %s: %s\n' "$1" "$(written "$2")"
    shift 2
  done
}

# workflow NAME CRON MINUTES [PERMISSION...]: its lines, as far as the inputs of its step.
workflow() {
  local job=$1 cron=$2 minutes=$3 each
  shift 3
  cat <<END
# .github/workflows/$job.yml
name: $job

on:
  schedule:
    - cron: "$cron" # UTC
  workflow_dispatch:

permissions: {}

concurrency:
  group: $job-$word
  cancel-in-progress: false

jobs:
  $job:
    runs-on: ubuntu-24.04
    timeout-minutes: $minutes
END
  # With an environment a token's sub ends in it, and the roles trust no other.
  local environment=${subject#environment:}
  environment=${environment//%3A/:}
  [ "$subject" = "${subject#environment:}" ] ||
    printf '    environment: %s\n' "$(written "$environment")"
  printf '    permissions:\n'
  for each in "$@" "id-token: write"; do printf '      %s\n' "$each"; done
  printf '    steps:\n      - uses: OWNER/pg-backup-action@v1\n        with:\n'
  inputs aws-region "$region" bucket "$bucket" prefix "$prefix" \
    replica-bucket "$replica_bucket" replica-region "$replica_region" \
    sns-topic-arn "$topic" cloudwatch-namespace "$namespace"
}

github_secret='${{ secrets.BACKUP_PASSWORD }}' github_token='${{ github.token }}'

workflow backup "17 2 * * *" 120
inputs role-to-assume "$writer" retention-tier auto
if [ -n "$secret" ]; then
  inputs database "$database" password-secret-id "$secret" sslmode verify-full
elif [ -n "$login_arn" ]; then
  inputs host "$host" port "$port" database "$database" user "$user" iam-auth 'true'
else
  inputs host "${host:-db.example.org}" port "$port" database "$database" \
    user "${user:-backup}" password "$github_secret" sslmode verify-full
fi
echo ---
workflow drill "43 4 3,17 * *" 350
inputs operation verify role-to-assume "$(value "$roles" RestorerRole)" database "$database"
echo ---
# The alarm for drills that are too old is told their age by this one, twice a week.
workflow audit "17 6 * * 1,4" 20 "actions: read" "contents: read"
inputs operation audit role-to-assume "$(value "$roles" AuditorRole)" writer-role "$writer" \
  retention-tier auto password-secret-id "$secret" github-token "$github_token"

{
  printf '\nThe stacks are there. What is left to do:\n'
  if [ -n "$login" ]; then
    printf '\n- Make the user %s in the database, as an administrator of it:\n\n' "$user"
    if [ -n "$secret" ]; then
      printf '  export BACKUP_PASSWORD=$(aws secretsmanager get-secret-value --region %q --secret-id %q' \
        "$region" "$secret"
      printf ' --query SecretString --output text | %s)\n' 'sed '\''s/.*"password": *"\([^"]*\)".*/\1/'\'
    fi
    printf '  psql %q -v login=%q -v backup_user=%q -f %q\n' \
      "host=$host port=${port:-5432} dbname=$database user=postgres sslmode=verify-full" \
      "$login" "$user" "$folder/database-access.sql"
  else
    printf '\n- Make the user with database-access.sql, and give its password to the repository:\n\n'
    printf '  gh secret set BACKUP_PASSWORD --repo %q\n' "$repository"
  fi
  if [ -z "$repository_ids" ]; then
    printf '\n- Of a repository made or renamed since July 2026, give the ids too (once):\n\n'
    printf '  --repository-ids "$(gh api repos/%s --jq %s)"\n' "$repository" \
      "'\"\\(.owner.login)@\\(.owner.id)/\\(.name)@\\(.id)\"'"
  fi
  [ -z "$email" ] || printf '\n- Confirm the subscription: AWS has sent %s a link.\n' "$email"
  printf '\n- Commit the workflows above on the default branch, each as the file its first line names.\n'
} >&2
