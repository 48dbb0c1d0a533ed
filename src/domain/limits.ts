/** Every bound of the product, by name. Sizes in bytes, times in milliseconds. */
export const LIMITS = {
  /** A manifest file or inline workflow. */
  manifestBytes: 4 * 1024 * 1024,
  /** Time that parsing one manifest may take. */
  manifestMs: 10_000,
  /** Nesting of objects and lists in a manifest or a request. */
  nestingMax: 64,
  /** YAML aliases that one document may expand. */
  yamlAliasMax: 100,
  /** Values that the aliases of one document may expand to. */
  yamlAliasValuesMax: 100_000,
  /** Nodes of one workflow. */
  nodesMax: 20_000,
  /** `needs` of one step. */
  needsMax: 20_000,
  /** Items of one forEach. */
  forEachItemsMax: 50_000,
  /** Turns of one loop. */
  loopTurnsMax: 10_000,
  /** Turns of a step that next names, where the workflow gives no maxTurns, and the most that it may give. */
  turnsMax: 1_000,
  /** Turns that begin in one transaction before the next one goes on: those that no worker takes follow each other at once. */
  turnsPerSettleMax: 500,
  /** Steps that next joins. */
  ringStepsMax: 1_000,
  /** Events sent to one run that no step has taken yet. */
  eventsKeptMax: 1_000,
  /** Payload of an event that is sent to a run, as JSON. */
  eventBytes: 256 * 1024,
  /** What an approval asks. */
  approvalMessageChars: 4_000,
  /** The comment of a decision. */
  commentChars: 4_000,
  /** Runs below runs: how deep children may have children. */
  childDepthMax: 8,
  /** Steps that a run names as what it waits for. */
  waitsShownMax: 20,
  /** Steps of one run, expanded ones included. */
  stepsPerRunMax: 100_000,
  /** Body of a request that is no bulk request. */
  bodyBytes: 5 * 1024 * 1024,
  /** Body of a bulk request or of a report. */
  bulkBodyBytes: 32 * 1024 * 1024,
  /** Runs of one bulk request. */
  bulkRunsMax: 5_000,
  /** Inputs of one run, as JSON. */
  inputBytes: 1024 * 1024,
  /** Output of one step, as JSON. */
  outputBytes: 1024 * 1024,
  /** Outputs up to this size stay in the step's row; larger ones have a table of their own. */
  inlineOutputBytes: 8 * 1024,
  /** The most that a tool may be let give, as JSON. */
  toolOutputMaxBytes: 4 * 1024 * 1024,
  /** The text of a .proto file of a tool. */
  protoChars: 200_000,
  /** One line of why a tool failed. */
  toolReasonChars: 500,
  /** Evidence of one failure, as JSON. */
  evidenceBytes: 64 * 1024,
  /** Last bytes of a command's output that a failure carries. */
  tailBytes: 4 * 1024,
  /** One log segment. */
  logSegmentBytes: 64 * 1024,
  /** Log of one attempt; later output is counted and dropped, and the log says so. */
  logAttemptBytes: 64 * 1024 * 1024,
  /** Log bytes that a worker holds in memory for one attempt before it stops reading. */
  logBufferBytes: 1024 * 1024,
  /** Rows of one flush of a plural verb. */
  flushItemsMax: 500,
  /** Rows that one tick moves. */
  tickItemsMax: 500,
  /** Page of a list. */
  pageDefault: 50,
  pageMax: 500,
  /** Requests that may wait for one flush before the server says rate_limited. */
  batchQueueMax: 50_000,
  /** A worker session's lease. */
  leaseMs: 8_000,
  /** How long work under way may finish when its worker is told to stop. Then functions are given up, and commands go on without it. */
  drainMs: 30_000,
  /** Heartbeat of a worker session. */
  heartbeatMs: 2_000,
  /** How often a server renews, sweeps and looks for what is due. */
  tickMs: 1_000,
  /** A poll answers at the latest after this, also when there is nothing to say. */
  pollMs: 20_000,
  /** A clock that is further off than this is told of. */
  clockSkewMs: 5_000,
  /** A directory with less than this free cannot be worked in; with less than that it is warned of. */
  diskFullBytes: 256 * 1024 * 1024,
  diskLowBytes: 1024 * 1024 * 1024,
  /** The same of the share of inodes that is free. */
  inodesFullShare: 0.005,
  inodesLowShare: 0.05,
  /** A database that answers a statement without work later than this is slow. */
  storeSlowMs: 250,
  /** SSE comment frames, so that proxies keep the stream open. */
  sseHeartbeatMs: 15_000,
  /** Commands of one set-up, and of one tear-down. */
  stageCommandsMax: 20,
  /** How long a tear-down may take when the workflow says nothing. */
  tearDownMs: 60_000,
  /** The longest time that a workflow may give it. */
  tearDownMaxMs: 24 * 3_600_000,
  /** What one step may hand on as variables, as text. */
  exportBytes: 64 * 1024,
  /** Variables that one step may hand on. */
  exportsMax: 200,
  /** Steps whose variables one step is given. */
  importStepsMax: 100,
  /** What one step may be handed by all steps before it, as text. */
  importBytes: 256 * 1024,
  /** Grace between TERM and KILL. */
  killGraceMs: 5_000,
  /** A queued step shows why it waits after this. */
  dispatchGraceMs: 2_000,
  /** A run without progress for this long is looked at. */
  stallMs: 300_000,
  /** Losses of one step before it is quarantined. */
  lossesMax: 3,
  /** An assignment that is not confirmed for this long is given to another. */
  acknowledgeMs: 16_000,
  /** Unacknowledged reports older than this go to the worker's disk. */
  outboxAfterMs: 50,
  /** Idempotency keys are remembered this long. */
  idempotencyMs: 24 * 3_600_000,
  /** A `Prefer: wait` never holds a request longer. */
  waitMaxMs: 60_000,
  /** Time one expression may take is bounded by its size: characters of source. */
  expressionChars: 4_096,
  /** Time that one expression may take; only a pattern or a nest of loops over large data comes near. */
  expressionMs: 1_000,
  /** What one expression may give, as JSON. */
  expressionResultBytes: 4 * 1024 * 1024,
  /** Compiled expressions kept in memory. */
  expressionCacheMax: 5_000,
  /** Time that one check against a JSON Schema may take; only a pattern made to explode comes near. */
  schemaMs: 1_000,
  /** Different JSON Schemas of one workflow. */
  schemasMax: 1_000,
  /** Compiled JSON Schemas kept in memory. */
  schemaCacheMax: 1_000,
  /** Problems listed with one failure; the last says when there are more. */
  problemsMax: 500,
  /** Connection attempts to the database at start. */
  storageStartTries: 5,
  /** Labels of one run or worker. */
  labelsMax: 64,
  labelValueChars: 256,
  /** Annotations of one resource, as JSON. */
  annotationBytes: 256 * 1024,
  /** Documents of one apply. */
  documentsMax: 1_000,
  /** Requirements of one label selector, and its text. */
  selectorTermsMax: 32,
  selectorChars: 4_096,
  /** A deleted resource is remembered this long, for those who watch and were away. */
  tombstoneMs: 24 * 3_600_000,
  /** Reports of one request, and log segments of one report. */
  reportsMax: 10_000,
  /** One file that a step leaves. */
  artifactBytes: 256 * 1024 * 1024,
  /** Patterns of files that one step names. */
  artifactRulesMax: 50,
  /** Files that one attempt leaves. */
  artifactsPerStepMax: 1_000,
  /** Piece in which files travel and are kept. */
  artifactChunkBytes: 256 * 1024,
  /** Path of one such file. */
  artifactNameChars: 1_024,
  /** Files are kept this long when the workflow says nothing, and at most. */
  artifactRetentionMs: 30 * 24 * 3_600_000,
  artifactRetentionMaxMs: 365 * 24 * 3_600_000,
  /** Contents that no file names are kept this long: an upload may be under way. */
  blobIdleMs: 24 * 3_600_000,
  /** Events of one run that are answered as a list. */
  eventsMax: 10_000,
  /** A request must have arrived whole after this, however steadily it comes. */
  requestMs: 900_000,
  /** A body of which nothing came for this long is given up. */
  requestStallMs: 30_000,
  /** Headers of a request must have arrived after this. */
  requestHeadersMs: 15_000,
  /** An idle kept-alive connection is closed after this; longer than the usual load balancer's. */
  keepAliveMs: 75_000,
  /** Connections that one server holds. */
  connectionsMax: 20_000,
  /** Requests of one token to one server, the exchange left out: a fuse against a program that runs wild. */
  requestsOfToken: { perSecond: 10_000, burst: 20_000 },
  /** Requests without a good token that one address may send to one server: guessing is hopeless, and cheap to refuse. */
  refusalsOfAddress: { perSecond: 10, burst: 100 },
  /** Requests of one address to the addresses that are open to all. */
  openRequestsOfAddress: { perSecond: 1_000, burst: 2_000 },
  /** Refusals that one server writes to the audit log in a minute. */
  denialsPerMinute: 100,
  /** Addresses whose refused tokens have an entry of their own in the audit log each minute; the others share one. */
  refusedAddressesPerMinute: 50,
  /** Entries of the audit log are kept for this long. */
  auditMs: 400 * 24 * 3_600_000,
  /** Namespaces that one token names. */
  tokenNamespacesMax: 100,
  /** Longest life of a token that expires. */
  tokenLifeSeconds: 10 * 365 * 24 * 3600,
  /** Slots of one worker. */
  capacityMax: 10_000,
  /** Steps of a state that the metrics count before they say that there are at least so many. */
  stepsCountedMax: 20_000,
  /** Spans that wait to be sent; more are dropped and counted. */
  spansQueuedMax: 8_192,
  /** Longest time that spans gather before they are sent. */
  spanDelayMaxMs: 60_000,
  /** Log lines that wait for the disk; more are dropped and counted. */
  logFileBufferBytes: 4 * 1024 * 1024,
  /** Size of a log file before it is put aside, and how many of those are kept. */
  logFileBytes: 64 * 1024 * 1024,
  logFilesKept: 5,
  /** The most that a setting may ask for of each. */
  logFileMibMax: 10_000,
  logFilesKeptMax: 1_000,
  /** Fallbacks of one model endpoint, and rows of one price table. */
  fallbacksMax: 16,
  /** Entries that an agent's worker writes into the journal at once, and approvals or budgets that it waits for at once. */
  journalAppendMax: 200,
  parkedOnMax: 64,
  /** Longest time that a budget may be waited for before it is asked again. */
  parkedMs: 400 * 24 * 3_600_000,
  /** Entries of one page of a journal, and about how many bytes of them. */
  journalPageMax: 500,
  journalPageBytes: 4 * 1024 * 1024,
  /** Names in one list of an agent. */
  agentNamesMax: 128,
  /** Agents that one run can reach, and what it keeps of all that its steps refer to. */
  boundAgentsMax: 256,
  boundBytes: 8 * 1024 * 1024,
  /** Steps that one route chooses from. */
  routesMax: 64,
  /** Of all instructions of an agent together; half of it is warned of. */
  instructionsChars: 200_000,
  priceRowsMax: 1_000,
  /** Rules of one list of a policy or a role, and names or patterns of one rule. */
  rulesMax: 200,
  /** Policies and roles of one namespace that rules are made of; with more, everything is denied. */
  rulesReadMax: 2_000,
  /** One pattern of data, and the parts that its repetitions make of it. */
  dataPatternChars: 500,
  dataPatternSize: 2_000,
  /** Pseudonyms of one activation of a step; what is found beyond them is redacted. */
  pseudonymsMax: 10_000,
  /** The most money that one budget may allow: what is counted stays exact. */
  budgetMoneyMax: 9_000_000,
  /** Tokens of one kind, and money, that one call of a model may be said to take: what is told beyond is no count. */
  callTokensMax: 1_000_000_000,
  callMoneyMax: 9_000_000,
  /** Tokens and money that were set aside for a call whose end nobody told of are free again after this. */
  holdMs: 3_600_000,
  /** A call that only waits for others to give back what was set aside for them asks again after this. */
  holdRetryMs: 5_000,
  /** Budgets that one look, or one namespace, has. */
  budgetsMax: 500,
  /** Calls of a rolling window that are looked through for when enough of it is free again. */
  freedRowsMax: 20_000,
  /** What was spent is remembered this long. */
  spendingMs: 400 * 24 * 3_600_000,
  /** When a budget let go of those who waited is remembered this long, and while an attempt runs that is older. */
  budgetWakeMs: 3_600_000,
  /** Parts, of `tickItemsMax` rows each, that one tick forgets of what budgets keep; the rest is for the next. */
  pruneBatchesMax: 20,
  /** Messages of one request to a model, and tools that it may offer. */
  modelMessagesMax: 1_000,
  modelToolsMax: 128,
  /** Longest wait for a place or a rate of an endpoint before the call goes to its fallbacks. */
  modelWaitMs: 60_000,
  /** Calls that wait for one endpoint in one process. */
  modelQueueMax: 1_000,
  /** What is read of one answer of a model, as it is after decompression. */
  answerBytes: 64 * 1024 * 1024,
  /** What is read of an answer that refuses. */
  refusalBytes: 256 * 1024,
  /** What is kept of it, for whoever reads the failure. */
  modelRefusalChars: 2_000,
  /** One text that a model is asked with. */
  promptChars: 500_000,
  /** Longest answer of a model: its text and what it calls tools with. */
  modelAnswerChars: 16 * 1024 * 1024,
  /** Tools of one MCP server, pages in which it lists them, and the description of one. */
  mcpToolsMax: 500,
  mcpPagesMax: 50,
  mcpDescriptionChars: 8_000,
  /** One message of an MCP server over its standard output, and the largest output of a call that its spec may allow. */
  mcpMessageBytes: 16 * 1024 * 1024,
  mcpOutputBytes: 8 * 1024 * 1024,
  /** One output that our own MCP server shows, and the lines of one page of a log. */
  mcpValueChars: 16_384,
  mcpLogChars: 65_536,
  /** Sessions with MCP servers that one worker holds. */
  mcpSessionsMax: 200,
  /** What a program that runs in a sandbox for long may write to its own /tmp. */
  sandboxTmpBytes: 64 * 1024 * 1024,
  /** How long the program of an MCP server may take to end at each step: its input ends, TERM, KILL. */
  mcpStopMs: 2_000,
  /** How long a server over stdio may take to say which revision of the protocol it speaks before it is taken for an old one. */
  mcpProbeMs: 3_000,
  /** Redirects of one request that leaves. */
  redirectsMax: 3,
  /** Endpoints that the doctor looks at. */
  modelsExaminedMax: 200,
  /** Entries that one run, one agent or everybody together may keep in a memory, when it says nothing and at most. */
  memoryEntries: 10_000,
  memoryEntriesMax: 100_000,
  /** The texts and metadata of these together, when it says nothing and at most. */
  memoryBytes: 64 * 1024 * 1024,
  memoryBytesMax: 1024 * 1024 * 1024,
  /** Key of an entry of a memory. */
  memoryKeyChars: 512,
  /** Text of one entry. */
  memoryTextChars: 100_000,
  /** Metadata of one entry, as JSON. */
  memoryMetadataBytes: 16 * 1024,
  /** A text that is taken in, cut into entries. */
  memoryIngestBytes: 10 * 1024 * 1024,
  /** Taking one text in, its vectors included. */
  memoryIngestMs: 600_000,
  /** Entries that one search gives. */
  memoryFoundMax: 100,
  /** What is searched for. */
  memoryQueryChars: 4_000,
  /** Entries whose vectors one search compares where the database has no vectors of its own; the newest are. */
  memoryComparedMax: 20_000,
  /** Entries of a run are kept so long after its end. */
  memoryOfRunMs: 24 * 3_600_000,
  /** For so long a call of an agent is known to have been made. */
  memoryCallMs: 30 * 24 * 3_600_000,
  /** Texts that one request to a model of embeddings has, and numbers of one vector. */
  embeddedAtOnceMax: 96,
  embeddingNumbersMax: 8_192,
  /** One value of a secret. */
  secretValueBytes: 64 * 1024,
  /** Keys of one secret, and secrets that one step may name. */
  secretKeysMax: 100,
  /** Values that one call of a rotation encrypts anew. */
  secretsResealMax: 200,
  /** Values that the log of a process leaves out; the oldest are forgotten first. */
  secretsRememberedMax: 500,
} as const
