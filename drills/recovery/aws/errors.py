"""What AWS's errors mean, and what to do about each.

Owns the table of codes. The codes are those of the API references of RDS, Backup and STS, and of AWS's common errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from drills.errors import AwsError

_RENEW = (
    "renew the credentials (`aws sso login`, or a new session of the role) and run the drill again; with them"
    " `drillbook sweep` removes what is left"
)
_PERMIT = "allow it in the IAM policy of the drill's role, for production's name and for names that begin with `dr-`"
_SEND = "check the credentials: AWS_PROFILE, AWS_ACCESS_KEY_ID, or the role of this machine"
_ROOM = "delete what is no longer needed, or have the quota raised (Service Quotas, Amazon RDS)"
_WAIT_A_LITTLE = "run the drill again later; AWS was asked as often as its standard mode allows"
_HINTS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"), _RENEW),
        **dict.fromkeys(("SSOTokenLoadError", "UnauthorizedSSOTokenError"), _RENEW),
        **dict.fromkeys(("AccessDenied", "AccessDeniedException", "UnauthorizedOperation"), _PERMIT),
        **dict.fromkeys(("InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException"), _SEND),
        **dict.fromkeys(("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"), _SEND),
        **dict.fromkeys(("ProfileNotFound", "IncompleteSignature", "AuthFailure"), _SEND),
        **dict.fromkeys(
            ("InstanceQuotaExceeded", "StorageQuotaExceeded", "SnapshotQuotaExceeded", "DBClusterQuotaExceededFault"),
            _ROOM,
        ),
        **dict.fromkeys(
            ("InsufficientDBInstanceCapacity", "InsufficientDBClusterCapacityFault"),
            "AWS has no such machine free there now: choose another instance_class, or try later",
        ),
        **dict.fromkeys(("DBInstanceNotFound", "DBClusterNotFoundFault"), "check its identifier and `region`"),
        **dict.fromkeys(
            ("DBSnapshotNotFound", "DBClusterSnapshotNotFoundFault"), "check the snapshot's name and the region"
        ),
        "DBSubnetGroupNotFoundFault": "make it in the region of the copy, or mend staging.subnet_group",
        **dict.fromkeys(
            ("DBParameterGroupNotFound", "DBClusterParameterGroupNotFound"),
            "make it in the region of the copy, or mend staging.parameter_group (cluster_parameter_group)",
        ),
        "KMSKeyNotAccessibleFault": "let the drill's role use the key (kms:CreateGrant, kms:Decrypt)",
        "EndpointConnectionError": "is AWS reachable from here, and AWS_ENDPOINT_URL right where it is set?",
        "ResourceNotFoundException": "check backup.vault and the region",
    }
)
_TRANSIENT = frozenset(
    {
        "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException",
        "RequestLimitExceeded", "TooManyRequestsException", "BandwidthLimitExceeded", "SlowDown",
        "PriorRequestNotComplete",
        "RequestTimeout", "RequestTimeoutException", "InternalError", "InternalFailure", "ServiceUnavailable",
        "EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError",
        "HTTPClientError", "ConnectionError", "ResponseParserError",
    }
)  # fmt: skip
_SERVER_FAULT = 500


def explain(operation: str, code: str, said: str, status: int) -> AwsError:
    """An error of AWS for a person: what was asked, what it said, what to do."""
    transient = code in _TRANSIENT or status >= _SERVER_FAULT
    hint = _HINTS.get(code, _WAIT_A_LITTLE if transient else "every answer of AWS is in raw/aws.jsonl of the bundle")
    asked = "".join(part.capitalize() if part != "db" else "DB" for part in operation.split("_"))
    return AwsError(
        f"AWS did not do {asked}: {said or 'it said nothing'} ({code})", hint=hint, code=code, transient=transient
    )
