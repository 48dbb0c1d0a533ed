export type * from './api-types.ts'
export type * from './resource-types.ts'
export { checkRequest, invalidRequest } from './check-request.ts'
export {
  type Assignment,
  type CancelOrder,
  EXCHANGE_PATHS,
  type ExchangeLane,
  type HeartbeatRequest,
  type HeartbeatResponse,
  type HeldAttempt,
  type LogSegment,
  type Orders,
  type PollRequest,
  type PollResponse,
  type RegisterRequest,
  type RegisterResponse,
  type Report,
  type ReportAck,
  type ReportRequest,
  type ReportResponse,
  type StepId,
} from './exchange.ts'
export { isCreateRunRequest, isHeartbeatRequest, isPollRequest, isReportRequest } from './hot-messages.ts'
export { findUnstorable, parseJson, type ParsedJson, textProblem } from './json-text.ts'
export { makeOpenApi } from './openapi.ts'
export { errorOfRecord, failureOfProblem, PROBLEM_TYPE, problemOf } from './problem.ts'
export { permissionAt, permissionOf, PERMISSIONS } from './permissions.ts'
export { type Route, type RouteId, ROUTES } from './routes.ts'
export {
  CreateDefinitionSchema,
  CreateRunSchema,
  CreateRunsSchema,
  EventsQuerySchema,
  HeartbeatSchema,
  ListRunsQuerySchema,
  LogsQuerySchema,
  PageQuerySchema,
  PollSchema,
  RegisterSchema,
  ReportSchema,
  SkipStepSchema,
} from './schemas.ts'
export { encodeSse, SSE_COMMENT, type SseFrame, SseParser } from './sse.ts'
