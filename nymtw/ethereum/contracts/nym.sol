// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

/// The least that the pipe asks of a token (ERC-20).
interface IERC20 {
    function transfer(address recipient, uint256 amount) external returns (bool);
    function transferFrom(address owner, address recipient, uint256 amount) external returns (bool);
}

/// A plain ERC-20 token of 18 decimals. All of it belongs to whoever deploys it; none is ever made or burnt later.
contract NymToken is IERC20 {
    string public constant name = "Nym";
    string public constant symbol = "NYM";
    uint8 public constant decimals = 18;
    uint256 public immutable totalSupply;
    mapping(address => uint256) public balanceOf;
    mapping(address => mapping(address => uint256)) public allowance;

    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);

    error InsufficientBalance();
    error InsufficientAllowance();
    error NullAddress();

    constructor(uint256 supply) {
        totalSupply = supply;
        balanceOf[msg.sender] = supply;
        emit Transfer(address(0), msg.sender, supply);
    }

    function transfer(address recipient, uint256 amount) external returns (bool) {
        _move(msg.sender, recipient, amount);
        return true;
    }

    function approve(address spender, uint256 amount) external returns (bool) {
        if (spender == address(0)) revert NullAddress();
        allowance[msg.sender][spender] = amount;
        emit Approval(msg.sender, spender, amount);
        return true;
    }

    function transferFrom(address owner, address recipient, uint256 amount) external returns (bool) {
        uint256 allowed = allowance[owner][msg.sender];
        if (allowed < amount) revert InsufficientAllowance();
        // An allowance of everything stays so, as users of tokens expect.
        if (allowed != type(uint256).max) allowance[owner][msg.sender] = allowed - amount;
        _move(owner, recipient, amount);
        return true;
    }

    function _move(address owner, address recipient, uint256 amount) private {
        if (recipient == address(0)) revert NullAddress();
        uint256 balance = balanceOf[owner];
        if (balance < amount) revert InsufficientBalance();
        unchecked {
            balanceOf[owner] = balance - amount;
            // No overflow: the sum of all balances is the supply.
            balanceOf[recipient] += amount;
        }
        emit Transfer(owner, recipient, amount);
    }
}

/// Holds the tokens that are on the ledger. They come in by `pipe`, or by a plain transfer to this contract, and go out
/// by `release` with the approval of enough redeemers, once for each withdrawal. Nobody owns it and nothing changes it.
contract NymPipe {
    IERC20 public immutable token;
    uint256 public immutable threshold;
    address[] private _redeemers;
    mapping(address => bool) public isRedeemer;
    mapping(uint256 => bool) public released;

    /// Follows, within a transaction, the token's Transfer log of the same amount.
    event Piped(address indexed sender, address indexed account, uint256 amount);
    event Released(uint256 indexed number, address indexed recipient, uint256 amount);

    error BadRedeemers();
    error NullAccount();
    error NullAmount();
    error AlreadyReleased();
    error TooFewApprovals();
    error BadApproval();
    error TransferFailed();

    constructor(IERC20 token_, address[] memory redeemers_, uint256 threshold_) {
        if (threshold_ == 0 || threshold_ > redeemers_.length) revert BadRedeemers();
        for (uint256 place = 0; place < redeemers_.length; place++) {
            address redeemer = redeemers_[place];
            if (redeemer == address(0) || isRedeemer[redeemer]) revert BadRedeemers();
            isRedeemer[redeemer] = true;
        }
        token = token_;
        threshold = threshold_;
        _redeemers = redeemers_;
    }

    function redeemers() external view returns (address[] memory) {
        return _redeemers;
    }

    /// Take `amount` of the sender's tokens, which it has approved before, for `account` on the ledger.
    function pipe(address account, uint256 amount) external {
        if (account == address(0)) revert NullAccount();
        if (amount == 0) revert NullAmount();
        if (!token.transferFrom(msg.sender, address(this), amount)) revert TransferFailed();
        emit Piped(msg.sender, account, amount);
    }

    /// Pay withdrawal `number` out. Each approval is a redeemer's EIP-191 signature (r, s, v; 65 bytes) of
    /// keccak256(abi.encode(chain id, this contract, number, recipient, amount)); their signers' addresses ascend.
    function release(uint256 number, address recipient, uint256 amount, bytes[] calldata approvals) external {
        if (released[number]) revert AlreadyReleased();
        if (approvals.length < threshold) revert TooFewApprovals();
        bytes32 digest = keccak256(
            abi.encodePacked(
                "\x19Ethereum Signed Message:\n32",
                keccak256(abi.encode(block.chainid, address(this), number, recipient, amount))
            )
        );
        address last = address(0);
        for (uint256 place = 0; place < approvals.length; place++) {
            address signer = _signer(digest, approvals[place]);
            if (signer <= last || !isRedeemer[signer]) revert BadApproval();
            last = signer;
        }
        released[number] = true;
        emit Released(number, recipient, amount);
        if (!token.transfer(recipient, amount)) revert TransferFailed();
    }

    function _signer(bytes32 digest, bytes calldata approval) private pure returns (address) {
        if (approval.length != 65) revert BadApproval();
        return ecrecover(digest, uint8(approval[64]), bytes32(approval[:32]), bytes32(approval[32:64]));
    }
}
