export { isLoopback, parseBlock } from './address-block.ts'
export {
  compileExpression,
  type CompiledExpression,
  type Expression,
  pathsOf,
  type ReadPath,
  type Scope,
} from './expression.ts'
export {
  Failure,
  failureOfProblems,
  type FailureOptions,
  type FailureRecord,
  failureRecord,
  type Problem,
} from './failure.ts'
export { type FailureCode, type FailureRow, FAILURES, isFailureCode } from './failures.ts'
export { checkInputs, checkSchema } from './inputs.ts'
export { LIMITS } from './limits.ts'
export { type CompiledWorkflow, compileWorkflow, parseManifest, readManifest } from './manifest.ts'
export { type StepManifest, type WorkflowManifest, workflowSchema } from './schema.ts'
export { evaluateCondition, evaluateTemplate, parseTemplate, type Template, type TemplatePart } from './template.ts'
export {
  type CommandNode,
  type Definition,
  type FunctionNode,
  isDecided,
  missingFor,
  type Offer,
  queueKey,
  type Requirements,
  requirementsOf,
  type RetryPolicy,
  type WorkflowNode,
} from './workflow.ts'
